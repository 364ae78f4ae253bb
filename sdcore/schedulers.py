"""Schedulers by short name: diffusers' classes, their variants, and their sigma spacings.

A name is ``base`` or ``base-spacing``: ``euler-a``, ``dpmpp-2m-karras``, ``ddim-trailing``, ``euler-zsnr``. The
arithmetic is diffusers'; a plugin adds schedulers with ``registry.add("scheduler", name, SchedulerSpec(...))``.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import RequestError
from .plugin import nearest

SPACINGS: Mapping[str, Mapping[str, Any]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace"},
    "zsnr": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
}
"""Suffixes and what they set: arXiv 2206.00364 (Karras), 2407.12173 (beta), 2305.08891 (trailing, zero SNR)."""


@dataclass(frozen=True)
class SchedulerSpec:
    """How to make a scheduler.

    Attributes:
        target: ``"module:Class"``, or a class or function that takes the model's scheduler config as a mapping
            and returns an object with diffusers' scheduler interface.
        config: fields that are set over the model's own scheduler config.
        about: one line for people.
        deaf: config fields that the class takes and makes nothing of; a suffix that sets one is refused.
    """

    target: str | Callable[..., Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    deaf: frozenset[str] = frozenset()


def _diffusers(module: str, name: str, about: str, deaf: Iterable[str] = (), **config: Any) -> SchedulerSpec:
    return SchedulerSpec(f"diffusers.schedulers.scheduling_{module}:{name}", config, about, frozenset(deaf))


_SPACING = ("timestep_spacing",)
_MULTI = ("dpmsolver_multistep", "DPMSolverMultistepScheduler")
BUILTIN: Mapping[str, SchedulerSpec] = {
    "ddpm": _diffusers("ddpm", "DDPMScheduler", "ancestral sampling (2006.11239)"),
    "ddim": _diffusers("ddim", "DDIMScheduler", "deterministic at eta 0 (2010.02502)"),
    "pndm": _diffusers("pndm", "PNDMScheduler", "pseudo numerical (2202.09778)", skip_prk_steps=True),
    "lms": _diffusers("lms_discrete", "LMSDiscreteScheduler", "linear multistep"),
    "euler": _diffusers("euler_discrete", "EulerDiscreteScheduler", "Euler (2206.00364, algorithm 2)"),
    "euler-a": _diffusers("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler", "ancestral Euler"),
    "heun": _diffusers("heun_discrete", "HeunDiscreteScheduler", "second order; two U-Net calls a step"),
    "dpm2": _diffusers("k_dpm_2_discrete", "KDPM2DiscreteScheduler", "DPM-Solver-2; two calls a step"),
    "dpm2-a": _diffusers("k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler", "ancestral DPM2"),
    "dpmpp-2m": _diffusers(*_MULTI, "DPM-Solver++ multistep (2211.01095)", algorithm_type="dpmsolver++"),
    "dpmpp-2m-sde": _diffusers(*_MULTI, "its stochastic form", algorithm_type="sde-dpmsolver++"),
    "dpmpp-3m": _diffusers(*_MULTI, "third order", algorithm_type="dpmsolver++", solver_order=3),
    "dpmpp-2s": _diffusers(
        "dpmsolver_singlestep", "DPMSolverSinglestepScheduler", "DPM-Solver++ singlestep", lower_order_final=True
    ),
    "dpmpp-sde": _diffusers("dpmsolver_sde", "DPMSolverSDEScheduler", "Brownian tree noise; two calls a step"),
    "unipc": _diffusers("unipc_multistep", "UniPCMultistepScheduler", "predictor-corrector (2302.04867)"),
    "deis": _diffusers("deis_multistep", "DEISMultistepScheduler", "exponential integrator (2204.13902)"),
    "sa-solver": _diffusers("sasolver", "SASolverScheduler", "stochastic Adams (2309.05019)"),
    "lcm": _diffusers("lcm", "LCMScheduler", "latent consistency models (2310.04378)", _SPACING),
    "tcd": _diffusers("tcd", "TCDScheduler", "trajectory consistency (2402.19159)", _SPACING),
    "edm-euler": _diffusers("edm_euler", "EDMEulerScheduler", "Euler for EDM-preconditioned models"),
    "edm-dpmpp-2m": _diffusers("edm_dpmsolver_multistep", "EDMDPMSolverMultistepScheduler", "the same, multistep"),
    "ddim-inverse": _diffusers("ddim_inverse", "DDIMInverseScheduler", "from picture to noise (2211.09794)"),
}


def register_builtin(registry: Any) -> None:
    """Put the built-in schedulers into a registry."""
    for name, spec in BUILTIN.items():
        registry.add("scheduler", name, spec)


def scheduler_names(registry: Any) -> list[str]:
    """Base names; each also takes the suffixes in :data:`SPACINGS` that its class knows."""
    return list(registry.all("scheduler"))


def make_scheduler(name: str | None, config: Mapping[str, Any], registry: Any) -> Any:
    """A fresh scheduler.

    Args:
        name: short name, or None for the class that the model's own config names.
        config: the model's scheduler config, with ``_class_name``.
        registry: where names are looked up.

    Raises:
        RequestError: unknown name or spacing, or a spacing that the class does not know.
    """
    if name is None:
        spec = SchedulerSpec(_own_class(config))
        chosen: Mapping[str, Any] = {}
        suffix = ""
    else:
        base, suffix = _split(name, registry)
        spec = registry.get("scheduler", base)
        chosen = {**spec.config, **SPACINGS.get(suffix, {})}
    target = _resolve(spec.target) if isinstance(spec.target, str) else spec.target
    if not hasattr(target, "from_config"):
        return target({**config, **chosen})
    known = inspect.signature(target.__init__).parameters
    offered = [s for s, fields in SPACINGS.items() if _takes(fields, known, spec.deaf)]
    if suffix and suffix not in offered:
        raise RequestError(f"scheduler {name!r}: it has no {suffix} spacing; it has: {', '.join(offered) or 'none'}")
    # What a scheduler object filled in for its own class says nothing about another class.
    filled_in = config.get("_use_default_values") or ()
    base_config = {key: value for key, value in config.items() if key not in filled_in}
    # Clipping to [-1, 1] is for pixels: latents are larger. diffusers' pipelines of SD1 and SD2 turn it off whatever
    # the config says; its DDIM and DDPM would turn it on where a config is silent.
    base_config["clip_sample"] = False
    if suffix in ("karras", "exponential", "beta"):  # at most one of them may be on
        base_config = {k: v for k, v in base_config.items() if not (k.startswith("use_") and k.endswith("_sigmas"))}
    # A fresh dict without class name: diffusers warns when configs of other classes are passed on.
    accepted = {key: value for key, value in {**base_config, **chosen}.items() if key in known}
    if suffix == "zsnr" and accepted.get("prediction_type", "epsilon") == "epsilon":
        raise RequestError(
            f"scheduler {name!r}: the model predicts the noise (epsilon), which cannot be done from a start of pure "
            "noise; zsnr is for models of v-prediction"
        )
    try:
        return _fresh(target, accepted)
    except (ValueError, NotImplementedError, ImportError) as error:
        raise RequestError(f"scheduler {name or target.__name__!r} refuses its settings: {error}") from error


_pristine: dict[tuple[Any, str], Any] = {}


def _fresh(target: Any, config: Mapping[str, Any]) -> Any:
    """A scheduler of its own for every run, as a copy: some classes take 200 ms to make, and 0.4 ms to copy."""
    key = (target, repr(sorted(config.items())))
    if key not in _pristine:
        if len(_pristine) >= 64:
            _pristine.clear()
        _pristine[key] = target.from_config(config)
    return copy.deepcopy(_pristine[key])


def _takes(fields: Mapping[str, Any], known: Iterable[str], deaf: frozenset[str]) -> bool:
    """Whether a class can be given all of a suffix's fields, and heeds the first, which the suffix is named for."""
    return all(key in known for key in fields) and next(iter(fields)) not in deaf


def _split(name: str, registry: Any) -> tuple[str, str]:
    known = registry.all("scheduler")
    if name in known:
        return name, ""
    base, _, suffix = name.rpartition("-")
    if base in known and suffix in SPACINGS:
        return base, suffix
    names = [*known, *(f"{b}-{s}" for b in known for s in SPACINGS)]
    hint = nearest(name, names)
    if not hint.startswith(" Did"):
        hint = f" Known: {', '.join(known)}; with a suffix: {', '.join(SPACINGS)}."
    raise RequestError(f"there is no scheduler {name!r}.{hint}")


def _own_class(config: Mapping[str, Any]) -> str:
    name = str(config.get("_class_name", ""))
    for spec in BUILTIN.values():
        if isinstance(spec.target, str) and spec.target.endswith(f":{name}"):
            return spec.target
    # Any other diffusers scheduler that a model folder names.
    return f"diffusers.schedulers:{name}"


def _resolve(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"scheduler class {name!r} cannot be imported: {error}") from error
