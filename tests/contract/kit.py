"""Small plugins, small models, and what a run leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sdcore import Contributions, Engine, Plugin, PluginError, Result, Run, Use, hookimpl, ports
from sdcore.events import Stepped
from sdcore.models import Model, load_model
from sdcore.ports import PORTS, Contribution, Port
from sdcore.testing.tiny import tiny_folder

REQUEST: dict[str, Any] = {
    "prompt": "a red apple",
    "seed": 3,
    "steps": 2,
    "height": 32,
    "width": 32,
    "scheduler": "ddim",
    "guidance_scale": 3.0,
}
PICTURE = Image.radial_gradient("L").resize((32, 32)).convert("RGB")


def look(event: Any) -> None:
    """An observer that looks at the preview of every step."""
    if isinstance(event, Stepped):
        event.preview()


NEEDS: dict[Port[Any], dict[str, Any]] = {
    ports.preview: {"on_event": look},
    ports.encode_image: {"image": PICTURE, "strength": 1.0},
    ports.sigmas: {"scheduler": "euler"},
}
"""What a request needs for a port to be reached at all."""
FUNCTIONS = tuple(port for port in PORTS if port not in (ports.weights, ports.words))
"""Ports whose stages are functions."""
ATTENTION = (ports.attention_qkv, ports.attention, ports.attention_add, ports.attention_probs)


@cache
def model(family: str = "sd1", **settings: Any) -> Model:
    """A tiny model, loaded once: every run leaves it as it was, which tests assert."""
    return load_model(str(tiny_folder(family, **settings)))


def plugin(name: str, **hooks: Callable[[Any], Any]) -> type[Plugin]:
    """A plugin class; each hook returns what the function gives for the run (or the event, or the registry)."""
    body: dict[str, Any] = {"name": name}
    for hook, function in hooks.items():
        body[hook] = hookimpl(_method(hook, function))
    return type(f"{name.title()}Plugin", (Plugin,), body)


def _method(hook: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    if hook == "register":

        def method(self: Plugin, registry: Any) -> Any:
            return function(registry)

    elif hook == "observe":

        def method(self: Plugin, event: Any) -> Any:  # type: ignore[misc]
            return function(event)

    else:

        def method(self: Plugin, run: Run) -> Any:  # type: ignore[misc]
            return function(run)

    return method


def sites(port: Port[Any], run: Run) -> dict[str, Any]:
    """``sites=`` for a port inside the U-Net; nothing for the others."""
    if not port.per_site:
        return {}
    if port in ATTENTION:
        return {"sites": run.find_sites("cross")}
    return {"sites": run.find_sites("skip") if port is ports.skip else run.find_sites("block", "mid")}


def at(port: Port[Any], fn: Any, **how: Any) -> Callable[[Run], Contributions]:
    """A hook that contributes one stage."""

    def hook(run: Run) -> Contribution:
        return port(fn, **{**sites(port, run), **how})

    return hook


def stage(name: str, port: Port[Any], fn: Any, **how: Any) -> type[Plugin]:
    """A plugin with one stage at one port."""
    return plugin(name, **{port.hook: at(port, fn, **how)})


def generate(*plugins: type[Plugin], on: Model | None = None, **fields: Any) -> Result:
    """Carry out the small request with all these plugins in use, in this order."""
    engine = Engine(on or model(), plugins=list(plugins))
    use = fields.pop("use", [Use(plugin=one.name) for one in plugins])
    on_event = fields.pop("on_event", None)
    request = {**REQUEST, **fields}
    if "timesteps" in request or "sigmas" in request:
        request.pop("steps")
    return engine.generate(use=use, on_event=on_event, **request)


@cache
def plain(port: Port[Any] | None = None, **fields: Any) -> Result:
    """What the small request gives without plugins; computed once, so that what spoils the model is seen."""
    return generate(**{**(NEEDS.get(port, {}) if port else {}), **fields})


@dataclass
class Call:
    """What the U-Net was given and what it gave."""

    sample: Tensor
    timestep: float
    context: Tensor
    kwargs: dict[str, Any]
    output: Tensor


@contextmanager
def watched(on: Model | None = None) -> Iterator[list[Call]]:
    """The calls of the U-Net inside the block."""
    calls: list[Call] = []

    def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        sample, timestep = args
        calls.append(Call(sample.clone(), float(timestep), kwargs["encoder_hidden_states"], kwargs, output[0]))

    handle = (on or model()).unet.register_forward_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@contextmanager
def seen(module: Any) -> Iterator[list[tuple[Tensor, Any]]]:
    """First input and output of a module at each of its calls."""
    found: list[tuple[Tensor, Any]] = []

    def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
        found.append((args[0] if args else next(iter(kwargs.values())), output))

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


class Predictions:
    """A plugin that writes down what the scheduler is given, step by step."""

    def __init__(self, name: str = "recorder") -> None:
        self.predictions: list[Tensor] = []
        self.latents: list[Tensor] = []

        def record(args: Any, call_next: Any) -> Any:
            self.predictions.append(args.prediction)
            self.latents.append(args.latents)
            return call_next(args)

        self.plugin = stage(name, ports.scheduler_step, record)


def fingerprint(on: Model) -> str:
    """Every weight, every forward that is not the class's, every hook of a model."""
    digest = hashlib.sha256()
    for name, component in sorted(on.components.items()):
        for key, value in component.state_dict().items():
            digest.update(f"{name}.{key}".encode() + value.contiguous().numpy().tobytes())
        for key, module in component.named_modules():
            hooks = sum(len(value) for attribute, value in vars(module).items() if attribute.endswith("_hooks"))
            digest.update(f"{key} {'forward' in vars(module)} {hooks}".encode())
    return digest.hexdigest()


def same_pictures(one: Result, other: Result) -> bool:
    """Whether two results have the same latents, bit for bit, and the same pixels."""
    pixels = [[image.tobytes() for image in result.images] for result in (one, other)]
    return torch.equal(one.latents, other.latents) and pixels[0] == pixels[1]


def is_blamed(error: PluginError, name: str, port: Port[Any] | str, step: int | None) -> None:
    """The error names plugin, distribution and version, port, step, and a remedy."""
    text = str(error)
    assert (error.plugin, error.where, error.step) == (name, str(port), step), text
    assert error.version in text
    assert repr(name) in text
    assert f"in {port}" in text
    assert "SDCORE_DISABLE" in text
    assert step is None or f"at step {step}" in text
