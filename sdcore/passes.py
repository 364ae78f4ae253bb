"""One pass: a planned run from prompt to composited pictures, the engine left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import guidance, ports
from .calling import broke, call, chain, chain_at
from .denoise import Denoiser, check_finite
from .errors import RequestError
from .host import PluginHost
from .images import tensors_to_images
from .judging import judge_preview, judge_prompt, withheld
from .latents import decode_latents, decode_plain, initial_latents, make_schedule
from .order import Plan, Stage, compile_plan
from .stages import Picture, Prompt, RunOutput, Step, Verdict
from .text import TextCache, encode_prompt
from .unet import SiteContext, SiteSession, check_sites
from .weights import WeightSession
from .words import Words

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
        stepped: told after every step, with a function that makes previews.
        warned: told what the user should know.
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
    check_sites(run.sites, plan)
    Words(plan[ports.words], run.model.text_encoders)  # what is wrong with them shows before anything is computed
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
    """What passes leave behind besides their output: verdicts, and lost words."""

    def __init__(self, pictures: int) -> None:
        self.verdicts: list[list[Verdict]] = [[] for _ in range(pictures)]
        self.lost: tuple[str, ...] = ()
        self._judged: list[Prompt] = []

    def judge(self, plan: Plan, prompt: Prompt) -> None:
        """Have a prompt judged, once: the user's, what plugins made of it, and what another pass is to draw.

        Raises:
            Withheld: it must not be drawn.
        """
        if prompt not in self._judged:
            self._judged.append(prompt)
            judge_prompt(plan[ports.judge_prompt], prompt, self.verdicts)


def carry_out(run: Run, plan: Plan, services: Services, state: PassState, previews: bool = True) -> RunOutput:
    """Carry out a planned run. Weights and sites are restored whatever happens."""
    import torch

    model = run.model
    context = SiteContext()
    weights = WeightSession(model.components, plan[ports.weights], context)
    sites = SiteSession(services.sites, plan, context, weights.side_modules)
    with torch.no_grad(), ExitStack() as clean_up:
        # Undone in reverse: the paths that weights put beside modules lie outside the stages at the sites.
        clean_up.callback(sites.detach)
        sites.attach()
        if plan[ports.weights] and not model.weight_files:
            model.hashes()  # of weights that have no file, while they are still the model's own
        clean_up.callback(weights.restore)
        weights.apply()
        asked = Prompt(run.request.prompt, run.request.negative_prompt)
        prompt: Prompt = chain(plan[ports.prompt], asked)
        state.judge(plan, prompt)  # what a plugin wrote is judged as what the user wrote was
        changed_text = any(name.startswith("text_encoder") for name in weights.targets)
        branches = ("cond", "uncond") if _needs_uncond(run, plan) else ("cond",)
        cache = None if changed_text else services.cache
        clean_up.push(lambda kind, *_: cache.clear() if kind and cache else None)  # a stage may have spoilt it
        run.conditioning, state.lost = encode_prompt(run, plan, prompt, cache, branches)
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
    shown = tuple(stage for stage in plan[ports.preview] if stage.phase == "show")

    def on_step(step: Step, latents: Tensor, x0: Callable[[], Tensor]) -> None:
        if judges:
            judge_preview(judges, step, x0(), state.verdicts)
        services.stepped(run, step, (lambda: _preview(run, _shown(shown, step, x0()), state)) if previews else list)

    return Denoiser(run, plan, weights, context, on_step)(latents)


def _shown(stages: tuple[Stage, ...], step: Step, x0: Tensor) -> Tensor:
    value: Tensor = chain_at(stages, step, x0, step.index)
    return value


def _preview(run: Run, x0: Tensor, state: PassState) -> list[Image]:
    """A small picture of x0: latents are thinned out first, so that it costs little at any size.

    What a check has withheld so far is shown as a black picture.
    """
    import torch

    with torch.no_grad():
        scale = PREVIEW_LATENTS / max(x0.shape[-2:])
        if scale < 1:
            x0 = torch.nn.functional.interpolate(x0.float(), scale_factor=scale, mode="area").to(x0.dtype)
        images = tensors_to_images(decode_plain(run, x0))
    shown = zip(images, state.verdicts, strict=True)
    return [image.point(lambda _: 0) if withheld(verdicts) else image for image, verdicts in shown]


def _composited(run: Run, plan: Plan, images: list[Image]) -> Iterable[Image]:
    stages = tuple(stage for stage in plan[ports.image] if stage.phase == "composite")
    for index, seed, image in zip(run.indices, run.seeds, images, strict=True):
        yield fold_images(stages, Picture(index, seed, run), image)


def fold_images(stages: Iterable[Stage], picture: Picture, image: Image) -> Image:
    """Fold one picture through image stages; it stays RGB, and only the phase ``restore`` may change its size."""
    for stage in stages:
        changed = call(stage, picture, image)
        if changed is None:
            continue
        mode, size = getattr(changed, "mode", type(changed).__name__), getattr(changed, "size", None)
        if mode != image.mode or (size != image.size and stage.phase != "restore"):
            raise broke(stage, f"it returned {mode} {size}, expected {image.mode} {image.size}")
        image = changed
    return image
