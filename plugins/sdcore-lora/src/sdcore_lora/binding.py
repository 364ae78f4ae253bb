"""Where the layers of a file belong in a model, and what does not belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contents import Contents, Layer, Modules
from .deltas import fits
from .families import WIDTHS, context_width, family_of, foreign
from .names import is_text

if TYPE_CHECKING:
    from torch.nn import Module

NAMES = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL", "refiner": "the SDXL refiner"}
_EDGES = ("conv_in", "conv_out")  # U-Nets for inpainting have more channels there


@dataclass(frozen=True)
class Bound:
    """A layer and the module that it changes: ``module`` is its name in the file's terms, ``parameter`` the model's."""

    layer: Layer
    component: str
    parameter: str
    has_bias: bool


@dataclass(frozen=True)
class Binding:
    """What fits: ``bound``; what does not: ``unused``, key to reason; ``problem`` if the file is for another model."""

    bound: tuple[Bound, ...]
    unused: Mapping[str, str]
    problem: str | None


@dataclass(frozen=True)
class Plan:
    """The modules of a model: shapes by component and clean name, the real names, and those with a bias."""

    family: str
    modules: Modules
    real: Mapping[tuple[str, str], str]
    biased: frozenset[tuple[str, str]]
    layers_per_block: int


def plan_of(family: str, components: Mapping[str, Module], layers_per_block: int) -> Plan:
    """The modules of a model that a LoRA may change, in the model's order."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    real: dict[tuple[str, str], str] = {}
    biased = set()
    for component, network in components.items():
        if component == "vae":
            continue
        known = modules.setdefault(component, {})
        for name, parameter in network.named_parameters():
            module, _, last = name.rpartition(".")
            clean = module.removeprefix("text_model.") if component != "unet" else module
            if last == "weight":
                known[clean] = tuple(parameter.shape)
                real[component, clean] = module
            elif last == "bias":
                biased.add((component, clean))
    return Plan(family, modules, real, frozenset(biased), layers_per_block)


def bind(contents: Contents, plan: Plan, what: str) -> Binding:
    """Find the module of every layer.

    Args:
        contents: of the file.
        plan: the model's modules.
        what: how messages name the file.
    """
    bound: list[Bound] = []
    unused = dict(contents.unknown)
    misfits: list[str] = []
    for layer in contents.layers:
        component, why = _component(layer, plan.modules)
        shape = plan.modules.get(component, {}).get(layer.module)
        if shape is None:
            reason = why or f"this model has no {layer.module}"
        elif not fits(layer.algorithm, layer.shape, shape):
            reason = f"it is for a weight of {layer.shape}, and this model's is {shape}"
            if layer.module not in _EDGES:
                misfits.append(f"{layer.component}.{layer.module}: {reason}")
        else:
            bias = (component, layer.module) in plan.biased
            bound.append(Bound(layer, component, plan.real[component, layer.module], bias))
            lost = [key for part, key in layer.keys.items() if part in ("up_bias", "diff_b", "b_norm") and not bias]
            unused.update(dict.fromkeys(lost, "this model has no such bias"))
            continue
        unused.update(dict.fromkeys(layer.keys.values(), reason))
    return Binding(tuple(bound), unused, _problem(contents, plan, what, bound, misfits))


def _component(layer: Layer, modules: Modules) -> tuple[str, str]:
    if layer.component == "unet":
        return "unet", ""
    if layer.component in modules and (layer.component != "text_encoder" or _suits(layer, modules["text_encoder"])):
        return layer.component, ""
    # The refiner's only text encoder is called the second; files of peft do not say which one they mean.
    if layer.component in ("bare", "text_encoder") and is_text(layer.module):
        for name in ("text_encoder", "text_encoder_2"):
            if name in modules and _suits(layer, modules[name]):
                return name, ""
    if layer.component in modules:
        return layer.component, ""
    return layer.component, f"this model has no {layer.component}"


def _suits(layer: Layer, modules: Mapping[str, tuple[int, ...]]) -> bool:
    return layer.module in modules and fits(layer.algorithm, layer.shape, modules[layer.module])


def _problem(contents: Contents, plan: Plan, what: str, bound: list[Bound], misfits: list[str]) -> str | None:
    family = NAMES.get(plan.family, plan.family)
    if contents.problems:
        return f"{what}: {contents.problems[0]} ({family}); use a LoRA made for it"
    if not contents.layers:
        if contents.words:
            return None
        other = foreign(contents)
        looks = f"it looks like {other}" if other else f"its keys are such as {next(iter(contents.unknown), '')!r}"
        return f"{what}: holds no LoRA for Stable Diffusion; {looks}"
    width, wanted = context_width(contents.layers), _context(plan.modules)
    if width is not None and wanted is not None and width != wanted:
        needed = f"{family} (this one's text is {wanted} wide)" if WIDTHS.get(wanted) != family else family
        return (
            f"{what}: is for {family_of(contents)} (its text is {width} wide), and the model is {needed}; "
            "use a LoRA made for it"
        )
    if misfits:
        more = f" and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        return f"{what}: does not fit this model ({family}); it is for {family_of(contents)}. {misfits[0]}{more}"
    if not bound:
        return (
            f"{what}: none of its {len(contents.layers)} layers is in this model ({family}); "
            f"it is for {family_of(contents)}"
        )
    return None


def _context(modules: Modules) -> int | None:
    return next((s[1] for name, s in modules.get("unet", {}).items() if name.endswith("attn2.to_k")), None)
