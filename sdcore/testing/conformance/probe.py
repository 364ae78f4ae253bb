"""Probes: plugins that do one visible thing at one port, to see whether another plugin lets it through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sdcore import ports
from sdcore.plugin import Plugin, hookimpl
from sdcore.ports import Contributions, Port

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.run import Run
    from sdcore.stages import AttentionArgs, Picture, Prompt, Step, UNetInput

NAME = "conformance-probe"


def _prompt(prompt: Prompt) -> Prompt:
    return prompt.replace(positive=f"{prompt.positive}, the green apple")


def _conditioning(value: Any) -> Any:
    return {name: told.replace(context=told.context * 1.1) for name, told in value.items()}


def _unet_input(inputs: UNetInput) -> UNetInput:
    """A residual of the middle block, as a ControlNet adds it."""
    import torch

    config = inputs.step.run.model.unet.config
    height, width = inputs.sample.shape[-2:]
    for _ in config.block_out_channels[1:]:
        height, width = (height + 1) // 2, (width + 1) // 2
    shape = (inputs.sample.shape[0], config.block_out_channels[-1], height, width)
    return inputs.add_residuals(mid=torch.full(shape, 0.5, dtype=inputs.sample.dtype, device=inputs.sample.device))


def _scale(step: Step, latents: Any) -> Any:
    return latents * 1.03


def _term(step: Step, predictions: Any) -> Any:
    return 0.05 * next(iter(predictions.values()))


def _prediction(step: Step, value: Any, predictions: Any) -> Any:
    return value * 1.03


def _attention(args: AttentionArgs) -> Any:
    return 0.1 * args.query


def _image(picture: Picture, image: Image) -> Image:
    return image.point(lambda value: 255 - value)


STAGES: dict[Port[Any], Callable[..., Any]] = {
    ports.prompt: _prompt,
    ports.conditioning: _conditioning,
    ports.latents_in: _scale,
    ports.unet_input: _unet_input,
    ports.guidance_terms: _term,
    ports.prediction: _prediction,
    ports.latents_out: _scale,
    ports.attention_add: _attention,
    ports.image: _image,
}
"""What the probe of a port does there."""
COMMUTE = (ports.unet_input, ports.guidance_terms, ports.attention_add)
"""Ports at which contributions are sums, so that the order in ``use`` must not matter."""


def probe(port: Port[Any], before: str) -> type[Plugin]:
    """A plugin that acts at one port, in front of the plugin ``before``."""

    def contribute(self: Any, run: Run) -> Contributions:
        stage = STAGES[port]
        how: dict[str, Any] = {"sites": run.find_sites("cross")} if port.per_site else {}
        return port(stage, before=() if port in COMMUTE else (before,), **how)

    contribute.__name__ = port.hook
    return type("Probe", (Plugin,), {"name": NAME, port.hook: hookimpl(contribute), "__doc__": "A probe."})
