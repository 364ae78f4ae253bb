"""One pass: a planned run from prompt to composited pictures, the engine left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import guidance, ports
from .calling import call, chain_at, checked
from .denoise import Denoiser, check_finite
from .errors import RequestError, Withheld
from .host import PluginHost
from .images import tensors_to_images
from .latents import decode_latents, decode_plain, initial_latents, make_schedule
from .order import Plan, Stage, compile_plan
from .stages import SEVERITIES, Picture, RunOutput, Step, Verdict
from .text import TextCache, encode_prompt
from .unet import SiteContext, SiteSession
from .weights import WeightSession

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from torch.nn import Module

    from .run import Run
    from .stages import Site

PREVIEW_LATENTS = 32
HOOKS = ("whole_run", "weights", "text", "latents", "step", "unet", "decode", "output", "judge")


@dataclass(frozen=True)
class Services:
    """What a pass needs of its engine.

    Attributes:
        host: the plugins.
        cache: text encodings kept between runs, or None.
        sites: the U-Net's sites and their modules.
        report: called with events' parts: (kind, payload).
        previews: whether previews may leave.
    """

    host: PluginHost
    cache: TextCache | None
    sites: Mapping[Site, Module]
    stepped: Callable[[Run, Step, Callable[[], list[Image]]], None]
    warned: Callable[[Run, str], None]


def plan_run(host: PluginHost, run: Run) -> Plan:
    """Call every hook that contributes, and put the stages in order. Nothing is computed yet."""
    names = run.plugins
    found = [item for hook in HOOKS for item in host.contributions(hook, run, names)]
    found += guidance.core_contributions(run)
    rank = {name: place for place, name in enumerate(names)}
    plan = compile_plan(found, rank, guidance.DEFAULTS)
    _check_channels(run, plan)
    return plan


def _check_channels(run: Run, plan: Plan) -> None:
    task = run.model.task
    if task != "text" and not plan[ports.unet_input] and not plan[ports.unet_call]:
        wanted = run.model.unet.config.in_channels
        raise RequestError(
            f"this U-Net takes {wanted} channels ({task}), of which a plain run fills {run.model.latent_channels}; "
            f"a plugin must fill the others: for inpainting use sdcore-inpaint"
        )


class PassState:
    """What a pass leaves behind besides its output: verdicts from previews and lost words."""

    def __init__(self, pictures: int) -> None:
        self.verdicts: list[list[Verdict]] = [[] for _ in range(pictures)]
        self.lost: tuple[str, ...] = ()


def carry_out(run: Run, plan: Plan, services: Services, state: PassState, previews: bool = True) -> RunOutput:
    """Carry out a planned run. Weights and sites are restored whatever happens."""
    import torch

    model = run.model
    context = SiteContext()
    targets: dict[str, Any] = {"unet": model.unet, "vae": model.vae}
    names = ("text_encoder", "text_encoder_2") if model.family != "refiner" else ("text_encoder_2",)
    targets.update(zip(names, model.text_encoders, strict=False))
    weights = WeightSession(targets, plan[ports.weights], context)
    sites = SiteSession(services.sites, plan, context, weights.side_modules)
    with torch.no_grad():
        try:
            weights.apply()
            sites.attach()
            changed_text = any(name.startswith("text_encoder") for name in weights.targets)
            branches = ("cond", "uncond") if _needs_uncond(run, plan) else ("cond",)
            cache = None if changed_text else services.cache
            run.conditioning, state.lost = encode_prompt(run, plan, cache, branches)
            if state.lost:
                services.warned(run, f"the prompt is too long; cut off: {' '.join(state.lost)}")
            run.schedule = make_schedule(run, plan)
            latents = initial_latents(run, plan)
            latents = _denoise(run, plan, services, state, weights, context, latents, previews)
            check_finite(latents)
            run.check_cancelled()
            if run.request.output == "latent":
                return RunOutput(latents, None)
            images = tensors_to_images(decode_latents(run, plan, latents))
        finally:
            sites.detach()
            weights.restore()
    return RunOutput(latents, tuple(_composited(run, plan, images)))


def _needs_uncond(run: Run, plan: Plan) -> bool:
    return guidance.uses_uncond(run) or plan.claimed(ports.guidance) or plan.claimed(ports.branches)


def _denoise(
    run: Run,
    plan: Plan,
    services: Services,
    state: PassState,
    weights: WeightSession,
    context: SiteContext,
    latents: Tensor,
    previews: bool,
) -> Tensor:
    judges = plan[ports.judge_preview]

    def on_step(step: Step, latents: Tensor, x0: Callable[[], Tensor]) -> None:
        if judges:
            _judge_preview(judges, step, x0(), state)
        services.stepped(run, step, (lambda: _preview(run, x0())) if previews else list)

    return Denoiser(run, plan, weights, context, on_step)(latents)


def _preview(run: Run, x0: Tensor) -> list[Image]:
    """A small picture of x0: latents are thinned out first, so that it costs little at any size."""
    import torch

    with torch.no_grad():
        scale = PREVIEW_LATENTS / max(x0.shape[-2:])
        if scale < 1:
            x0 = torch.nn.functional.interpolate(x0.float(), scale_factor=scale, mode="area").to(x0.dtype)
        return tensors_to_images(decode_plain(run, x0))


def _judge_preview(judges: Iterable[Stage], step: Step, x0: Tensor, state: PassState) -> None:
    for stage in judges:
        try:
            found = list(stage.fn(step, x0) or [None] * len(state.verdicts))
            if len(found) != len(state.verdicts):
                raise ValueError(f"it gave {len(found)} verdicts for {len(state.verdicts)} pictures")
        except Exception as error:  # noqa: BLE001 - a check that fails is the most severe verdict
            found = [failed_check(stage, error)] * len(state.verdicts)
        for verdicts, verdict in zip(state.verdicts, found, strict=True):
            if verdict is not None and verdict.severity != "allow":
                verdicts.append(verdict)
    withheld = [worst(verdicts) for verdicts in state.verdicts]
    if all(verdict is not None and verdict.withholds for verdict in withheld):
        raise withhold([verdict for verdict in withheld if verdict is not None])


def failed_check(stage: Stage, error: Exception) -> Verdict:
    """The verdict for a check that raised."""
    return Verdict("error", f"check of {stage.plugin} ({stage.version}) failed: {type(error).__name__}: {error}", stage.plugin)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The most severe verdict, or None."""
    return max(verdicts, key=lambda verdict: SEVERITIES.index(verdict.severity), default=None)


def withhold(verdicts: list[Verdict]) -> Withheld:
    """The error for a run of which nothing may leave."""
    ordered = sorted(verdicts, key=lambda v: -SEVERITIES.index(v.severity))
    return Withheld(f"nothing was returned: {ordered[0].reason or ordered[0].check}", tuple(ordered))


def _composited(run: Run, plan: Plan, images: list[Image]) -> Iterable[Image]:
    stages = tuple(stage for stage in plan[ports.image] if stage.phase == "composite")
    for index, seed, image in zip(run.indices, run.seeds, images, strict=True):
        yield fold_images(stages, Picture(index, seed, run), image)


def fold_images(stages: Iterable[Stage], picture: Picture, image: Image) -> Image:
    """Fold one picture through image stages; only the phase ``restore`` may change its size."""
    for stage in stages:
        changed = call(stage, picture, image)
        if changed is None:
            continue
        image = checked(stage, image, changed) if stage.phase == "restore" else _same_size(stage, image, changed)
    return image


def _same_size(stage: Stage, old: Image, new: Any) -> Image:
    from .calling import broke

    if getattr(new, "size", None) != old.size or getattr(new, "mode", None) != old.mode:
        raise broke(stage, f"it returned {getattr(new, 'mode', type(new).__name__)} {getattr(new, 'size', '')}, "
                    f"expected {old.mode} {old.size}")  # fmt: skip
    return new  # type: ignore[no-any-return]


__all__ = ["PassState", "Services", "carry_out", "chain_at", "fold_images", "plan_run", "worst"]
