"""The loop: latents to latents. The hot path; stages come from the plan as flat tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from . import guidance, ports
from .calling import add, blame, broke, call, chain, chain_at, checked, is_out_of_memory, onion
from .errors import RequestError, SdcoreError
from .order import Plan
from .stages import Branch, SchedulerArgs, Step, StepArgs, UNetInput

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run
    from .unet import SiteContext
    from .weights import WeightSession


class Denoiser:
    """The loop of one run.

    Args:
        run: the run, with its conditioning and schedule.
        plan: its plan.
        weights: patches that may change between steps.
        context: where sites read which step and which rows they see.
        on_step: called after every step with (step, latents, x0); x0 is a function.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        weights: WeightSession,
        context: SiteContext,
        on_step: Callable[[Step, Tensor, Callable[[], Tensor]], None],
    ) -> None:
        self._run, self._plan, self._weights, self._context, self._on_step = run, plan, weights, context, on_step
        self._unet: Any = run.model.unet
        blocks = getattr(self._unet, "down_blocks", ())
        self._skips = 1 + sum(len(b.resnets) + len(getattr(b, "downsamplers", None) or ()) for b in blocks)
        schedule = run.schedule
        self._host_timesteps = list(schedule.host_timesteps)
        self._timesteps = list(schedule.host_timesteps.to(run.device))
        self._arguments = schedule.step_arguments(run.generators, run.seeds, run.request.eta)
        rates = schedule.rates
        self.steps = tuple(
            Step(index, len(rates), timestep, alpha, sigma, run)
            for index, (timestep, (alpha, sigma)) in enumerate(zip(schedule.timesteps, rates, strict=True))
        )
        self._branches = plan[ports.branches]
        if plan.claimed(ports.branches) and not plan.claimed(ports.guidance):
            # A plugin asks for branches of its own; classifier-free guidance still needs its two.
            self._own_branches: Callable[[Step], Any] | None = guidance.branches
        else:
            self._own_branches = None
        self._guidance = plan[ports.guidance][0]
        self._terms = plan[ports.guidance_terms]
        self._prediction = plan[ports.prediction]
        self._unet_input = plan[ports.unet_input]
        self._preview = tuple(stage for stage in plan[ports.preview] if stage.phase == "compose")
        self._latents_in, self._latents_out = plan[ports.latents_in], plan[ports.latents_out]
        self._whole_step = onion(plan[ports.whole_step], self._one_step)
        self._scheduler_step = onion(plan[ports.scheduler_step], self._update)
        self._call_unet = onion(plan[ports.unet_call], self._unet_by_weights)
        self._batches: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._guided: tuple[Tensor, Tensor] | None = None
        # Schedulers count their steps; a stage may go one again, and must find the scheduler as it was.
        self._repeats = plan.claimed(ports.whole_step) or plan.claimed(ports.scheduler_step)
        self._before: dict[str, tuple[int, dict[str, Any]]] = {}

    def __call__(self, latents: Tensor) -> Tensor:
        """Run all steps. ``latents`` (batch, channels, height, width) noised for the first of them."""
        for step in self.steps:
            self._run.check_cancelled()
            self._guided = None
            latents = self._whole_step(StepArgs(step, latents))
            self._on_step(step, latents, partial(self._x0, step, latents, self._guided))
        return latents

    def _x0(self, step: Step, left: Tensor, guided: tuple[Tensor, Tensor] | None) -> Tensor:
        """The predicted picture as previews show it; what left, where a stage did without a prediction."""
        x0 = left
        if guided is not None and guided[0].shape == left.shape:
            x0 = self._run.schedule.to_x0(*guided, step.alpha, step.sigma)
        shown: Tensor = chain_at(self._preview, step, x0, step.index)
        return shown

    def _rewind(self, place: str, step: Step) -> None:
        """Put the scheduler back to where it was when this place of this step was first come to."""
        state = vars(self._run.schedule.scheduler)
        known = self._before.get(place)
        if known is not None and known[0] == step.index:
            state.clear()
            state.update(known[1])
        copied = {name: list(value) if isinstance(value, list) else value for name, value in state.items()}
        self._before[place] = (step.index, copied)

    def _one_step(self, args: StepArgs) -> Tensor:
        step, latents = args.step, args.latents
        index = step.index
        if self._repeats:
            self._rewind("step", step)
        if self._latents_in:
            latents = chain_at(self._latents_in, step, latents, index)
        predictions = self._predict(step, latents)
        output: Tensor = call(self._guidance, step, predictions, step=index)
        if self._guidance.plugin != "core":
            checked(self._guidance, predictions.get("cond", latents), output, index)
        output = add(self._terms, output, step, predictions, step=index)
        if self._prediction:
            output = self._edit_prediction(step, output, latents, predictions)
        self._guided = (output, latents)
        left: Tensor = self._scheduler_step(SchedulerArgs(step, output, latents))
        if self._latents_out:
            changed: Tensor = chain_at(self._latents_out, step, left, index)
            return changed
        return left

    def _edit_prediction(
        self, step: Step, output: Tensor, latents: Tensor, predictions: Mapping[str, Tensor]
    ) -> Tensor:
        schedule, alpha, sigma = self._run.schedule, step.alpha, step.sigma
        for stage in self._prediction:
            if stage.phase == "rescale":
                value = output
            else:
                value = x0 = schedule.to_x0(output, latents, alpha, sigma)
                if stage.phase == "epsilon":
                    value = (latents - alpha * x0) / sigma
            changed = call(stage, step, value, predictions, step=step.index)
            if changed is None:
                continue
            changed = checked(stage, value, changed, step.index)
            if stage.phase == "rescale":
                output = changed
            else:
                x0 = changed if stage.phase == "x0" else (latents - sigma * changed) / alpha
                output = schedule.from_x0(x0, latents, alpha, sigma)
        return output

    def _update(self, args: SchedulerArgs) -> Tensor:
        if self._repeats:
            self._rewind("update", args.step)
        timestep = self._host_timesteps[args.step.index]
        scheduler = self._run.schedule.scheduler
        latents: Tensor = scheduler.step(args.prediction, timestep, args.latents, **self._arguments, return_dict=False)[
            0
        ]
        return latents

    # -- branches and the U-Net -------------------------------------------------------------------------

    def _predict(self, step: Step, latents: Tensor) -> Mapping[str, Tensor]:
        branches = self._wanted(step)
        context, added, rows, timestep_cond = self._batch(branches, latents.shape[0])
        sample = self._run.schedule.scale_input(_repeat(latents, len(branches)), self._host_timesteps[step.index])
        inputs = UNetInput(
            step, sample, self._timesteps[step.index], context, added, rows, branches, timestep_cond=timestep_cond
        )
        if self._unet_input:
            inputs = chain(self._unet_input, inputs, step.index)
        output = self._call(inputs)
        if len(branches) == 1:
            return {branches[0].id: output}
        return {name: output[where] for name, where in rows.items()}

    def _call(self, inputs: UNetInput) -> Tensor:
        try:
            output: Tensor = self._call_unet(inputs)
            return output
        except Exception as error:
            if not self._unet_input or isinstance(error, SdcoreError) or is_out_of_memory(error):
                raise
            names = " and ".join(dict.fromkeys(repr(stage.plugin) for stage in self._unet_input))
            problem = f"the U-Net cannot use what {names} made of its input: {type(error).__name__}: {error}"
            raise broke(self._unet_input[-1], problem, inputs.step.index) from error

    def _wanted(self, step: Step) -> tuple[Branch, ...]:
        found: dict[str, Branch] = {}
        if self._own_branches is not None:
            found.update((branch.id, branch) for branch in self._own_branches(step))
        for stage in self._branches:
            try:
                asked = tuple(stage.fn(step) or ())
            except Exception as error:  # noqa: BLE001 - raised again with the plugin's name
                blamed = blame(stage, error, step.index)
                raise blamed from (None if blamed is error else error)
            for branch in asked:
                if not isinstance(branch, Branch):
                    raise broke(stage, f"it returned {type(branch).__name__}, expected Branch", step.index)
                known = found.setdefault(branch.id, branch)
                if known.conditioning is not branch.conditioning or known.tags != branch.tags:
                    raise broke(
                        stage, f"it asks for branch {branch.id!r} with another conditioning or tags than "
                        "someone before it; use an id of its own", step.index
                    )  # fmt: skip
        if not found:
            raise broke(self._guidance, "no branch was asked for; contribute to step.branches", step.index)
        return tuple(found.values())

    def _batch(self, branches: tuple[Branch, ...], pictures: int) -> tuple[Any, ...]:
        """Context, added conditions, rows and guidance embedding of these branches; made once, then kept."""
        import torch

        key = (pictures, *((branch.id, id(branch.conditioning)) for branch in branches))
        if key in self._batches:
            return self._batches[key][:4]
        conditions = []
        for branch in branches:
            found = branch.conditioning or self._run.conditioning.get(branch.id) or self._run.conditioning["cond"]
            conditions.append(found)
        lengths = {branch.id: one.context.shape[1] for branch, one in zip(branches, conditions, strict=True)}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise RequestError(
                f"the contexts of the branches are not equally long (tokens: {told}); the plugin that changes one at "
                "text.conditioning, or gives a branch its own, must pad it to the length of the others"
            )
        contexts = [one.context.repeat(pictures, 1, 1) for one in conditions]
        context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
        added = None
        if all(one.pooled is not None and one.time_ids is not None for one in conditions):
            added = {
                "text_embeds": torch.cat([one.pooled.repeat(pictures, 1) for one in conditions]),  # type: ignore[union-attr]
                "time_ids": torch.cat([one.time_ids.repeat(pictures, 1) for one in conditions]),  # type: ignore[union-attr]
            }
        rows = {b.id: slice(i * pictures, (i + 1) * pictures) for i, b in enumerate(branches)}
        if len(self._batches) >= 8:  # a plugin that makes new conditionings in every step
            self._batches.clear()
        made = (context, added, rows, self._guidance_embedding(len(branches) * pictures), branches)
        self._batches[key] = made  # the branches are kept with it: the ids in the key stay taken
        return made[:4]

    def _guidance_embedding(self, rows: int) -> Tensor | None:
        """The guidance scale as an embedding, for distilled U-Nets (arXiv 2310.04378, section 4.2)."""
        width = getattr(self._unet.config, "time_cond_proj_dim", None)
        if width is None:
            return None
        import torch

        scale = self._run.request.guidance_scale
        assert scale is not None
        half = width // 2
        frequencies = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
        angles = torch.tensor(scale - 1.0).repeat(rows)[:, None] * 1000.0 * frequencies[None, :]
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
        return torch.nn.functional.pad(embedding, (0, width % 2)).to(self._run.device, self._run.dtype)

    def _unet_by_weights(self, inputs: UNetInput) -> Tensor:
        """The U-Net, once for every group of branches that sees the same weights."""
        if not self._weights.scheduled:
            return self._unet_once(inputs)
        import torch

        outputs: dict[str, Tensor] = {}
        for strengths, names in self._weights.groups(inputs.step, inputs.branches):
            self._weights.write(strengths)
            part = _select(inputs, names)
            output = self._unet_once(part)
            outputs.update((name, output[part.rows[name]]) for name in names)
        return torch.cat([outputs[branch.id] for branch in inputs.branches])

    def _unet_once(self, inputs: UNetInput) -> Tensor:
        self._run.check_cancelled()
        context = self._context
        context.step, context.rows, context.branches = inputs.step, inputs.rows, inputs.branches
        context.epoch = self._weights.epoch
        sample = inputs.sample
        if inputs.extra_channels is not None:
            import torch

            sample = torch.cat([sample, inputs.extra_channels], dim=1)
        residuals: dict[str, Any] = {}
        down, mid = inputs.down_residuals, inputs.mid_residual
        if down is not None and len(down) != self._skips:
            raise ValueError(f"{len(down)} residuals for the {self._skips} skip connections of the down blocks")
        if down is not None or mid is not None:
            # diffusers would drop a residual of the middle alone, and take those of the down blocks for others.
            nothing = sample.new_zeros(())
            residuals["down_block_additional_residuals"] = (nothing,) * self._skips if down is None else down
            residuals["mid_block_additional_residual"] = nothing if mid is None else mid
        if inputs.intrablock_residuals is not None:
            residuals["down_intrablock_additional_residuals"] = list(inputs.intrablock_residuals)  # it pops them
        output: Tensor = self._unet(
            sample,
            inputs.timestep,
            encoder_hidden_states=inputs.context,
            timestep_cond=inputs.timestep_cond,
            added_cond_kwargs=inputs.added,
            return_dict=False,
            **residuals,
        )[0]
        return output


def _repeat(latents: Tensor, times: int) -> Tensor:
    import torch

    return latents if times == 1 else torch.cat([latents] * times)


def _select(inputs: UNetInput, names: list[str]) -> UNetInput:
    """The rows of some branches only."""
    import torch

    if len(names) == len(inputs.branches):
        return inputs

    def pick(value: Tensor) -> Tensor:
        return torch.cat([value[inputs.rows[name]] for name in names])

    size = {name: inputs.rows[name].stop - inputs.rows[name].start for name in names}
    rows, start = {}, 0
    for name in names:
        rows[name] = slice(start, start + size[name])
        start += size[name]

    def maybe(value: Any) -> Any:
        return None if value is None else tuple(pick(v) for v in value) if isinstance(value, tuple) else pick(value)

    return inputs.replace(
        sample=pick(inputs.sample),
        context=pick(inputs.context),
        added=None if inputs.added is None else {key: pick(value) for key, value in inputs.added.items()},
        rows=rows,
        branches=tuple(branch for branch in inputs.branches if branch.id in names),
        extra_channels=maybe(inputs.extra_channels),
        down_residuals=maybe(inputs.down_residuals),
        mid_residual=maybe(inputs.mid_residual),
        intrablock_residuals=maybe(inputs.intrablock_residuals),
        timestep_cond=maybe(inputs.timestep_cond),
    )


def check_finite(latents: Tensor) -> None:
    """Refuse latents that are not numbers: decoding them would give a black picture that looks like a result."""
    if not bool(latents.isfinite().all()):
        raise SdcoreError(
            "the latents are not finite after the last step; half precision may have overflowed (try dtype=float32), "
            "the guidance may be too strong, or the weights may be damaged"
        )
