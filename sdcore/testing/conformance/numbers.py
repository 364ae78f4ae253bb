"""Checks of numbers: half precision, and requests at the edges of what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdcore.errors import RequestError

from .catalogue import check
from .outcome import Failed
from .subject import Trial

if TYPE_CHECKING:
    from sdcore.result import Result


@check(12, "dtype", "it works in half precision", everywhere=True, tiers=("cpu", "gpu"), needs=("effect",))
def dtype(trial: Trial) -> None:
    """bfloat16 on a CPU, float16 on a GPU: it runs, latents keep the dtype, everything is finite."""
    import torch

    from sdcore.engine import Engine

    name = "bfloat16" if trial.setting.device == "cpu" else "float16"
    engine = Engine(trial.setting.load(name), plugins=[trial.subject.chosen])
    result = trial.run(on=engine)
    if result.latents.dtype != getattr(torch, name):
        raise Failed(f"in {name} the latents are {result.latents.dtype}; keep the dtype of what a stage is given")
    _finite(result, f"in {name}")


@check(
    16,
    "sizes",
    "it works at the edges: one step, no guidance, an empty prompt, a batch, a crooked size",
    needs=("effect",),
)
def sizes(trial: Trial) -> None:
    """Each runs and is finite; a size may also be refused, if that is before anything is computed."""
    alone = trial.run(steps=1, guidance_scale=1.0, prompt="", negative_prompt=None)
    _finite(alone, "with one step, no guidance and an empty prompt")
    factor = trial.setting.model.vae_scale_factor
    request = trial.request()
    crooked: dict[str, Any] = {
        "height": request.get("height", trial.setting.size) + factor,
        "width": request.get("width", trial.setting.size) + 3 * factor,
    }
    if "image" in request:
        crooked = {"image": trial.setting.picture((crooked["width"], crooked["height"]))}
    try:
        three = trial.run(seed=None, seeds=(1, 2, 3), batch_size=3, guidance_scale=1.0, **crooked)
    except RequestError:
        return  # refused before anything was computed
    _finite(three, f"with three pictures, no guidance and {crooked}")
    if len(three.latents) + len(three.withheld) != 3:
        raise Failed(f"three seeds gave {len(three.latents)} pictures")


def _finite(result: Result, when: str) -> None:
    if not bool(result.latents.float().isfinite().all()):
        raise Failed(f"{when}: latents are not finite")
