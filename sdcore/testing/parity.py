"""The same work done twice, by sdcore and by a pipeline of diffusers, and how far apart they are at every step.

For tests only: diffusers' pipelines are what results are compared with, never what makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdcore import Contributions, Engine, Plugin, Run, hookimpl, ports
from sdcore.uses import read_uses

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore.stages import Step


@dataclass
class Trace:
    """What one side did: latents after every step, latents that it returned, pictures that it returned."""

    timesteps: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    final: Tensor | None = None
    images: list[Image] = field(default_factory=list)


class Recorder(Plugin):
    """Keeps the latents of every step. Give the class to the engine: ``Engine.load(..., plugins=[Recorder, ...])``."""

    name = "recorder"

    def __init__(self) -> None:
        self.trace = Trace()

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Contribute to the port ``latents_out``, behind whoever else does."""

        def keep(step: Step, latents: Tensor) -> None:
            self.trace.latents.append(latents.clone())
            self.trace.timesteps.append(step.timestep)

        return ports.latents_out(keep, after=[name for name in run.plugins if name != self.name])


def ours(engine: Engine, *, use: Any = (), **fields: Any) -> Trace:
    """Run an engine that has the :class:`Recorder`, all pictures in one batch, with the fields of a request."""
    recorder: Any = engine.host.plugin("recorder")
    trace = recorder.trace = Trace()
    seeds = fields.get("seeds")
    if seeds is not None:
        fields.setdefault("batch_size", len(seeds))
    result = engine.generate(use=[*read_uses(use), "recorder"], **fields)
    trace.final, trace.images = result.latents, result.images
    return trace


def theirs(pipe: Any, seeds: Sequence[int], scheduler: Any = None, **arguments: Any) -> Trace:
    """Run a pipeline of diffusers, with a generator on the CPU for every picture.

    Args:
        pipe: the pipeline; its scheduler is left as it was.
        seeds: one a picture.
        scheduler: a scheduler of diffusers to use instead of a fresh one with the pipeline's configuration.
        arguments: of the call; ``output_type`` is ``"latent"`` if it is not among them.
    """
    import torch

    own, trace = pipe.scheduler, Trace()
    pipe.scheduler = scheduler if scheduler is not None else type(own).from_config(own.config)
    pipe.set_progress_bar_config(disable=True)

    def keep(_pipe: Any, _index: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        trace.timesteps.append(float(timestep))
        trace.latents.append(given["latents"].clone())
        return given

    arguments.setdefault("output_type", "latent")
    try:
        output = pipe(
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            num_images_per_prompt=len(seeds),
            **_watching(pipe, keep),
            **arguments,
        )
    finally:
        pipe.scheduler = own
    if arguments["output_type"] == "latent":
        trace.final = output.images
    else:
        trace.images = list(output.images)
    return trace


def _watching(pipe: Any, keep: Any) -> dict[str, Any]:
    import inspect

    if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
        return {"callback_on_step_end": keep}

    def older(index: int, timestep: Any, latents: Tensor) -> None:  # pipelines that were not brought up to date
        keep(pipe, index, timestep, {"latents": latents})

    return {"callback": older, "callback_steps": 1}


def difference(one: Trace, other: Trace) -> float:
    """Largest difference of the latents over all steps, relative to max(1, largest latent of the step).

    Raises:
        AssertionError: they did not visit the same timesteps, or a latent is not a number.
    """
    assert one.timesteps == other.timesteps, f"timesteps differ: {one.timesteps} and {other.timesteps}"
    assert one.latents, "no step was recorded"
    assert len(one.latents) == len(other.latents), f"{len(one.latents)} and {len(other.latents)} steps"
    pairs = list(zip(one.latents, other.latents, strict=True))
    if one.final is not None and other.final is not None:
        pairs.append((one.final, other.final))
    worst = 0.0
    for ours_, theirs_ in pairs:
        assert ours_.shape == theirs_.shape, f"shapes differ: {tuple(ours_.shape)} and {tuple(theirs_.shape)}"
        assert bool(theirs_.isfinite().all()), "a latent is not a number"
        worst = max(worst, float((ours_ - theirs_).abs().max()) / max(1.0, float(theirs_.abs().max())))
    return worst
