"""Checks of what a plugin does to pictures: nothing when it is off, something when it is on, always the same."""

from __future__ import annotations

from typing import Any

from sdcore.errors import RequestError

from .catalogue import check
from .comparing import apart, difference, near, same
from .outcome import Failed, NotApplicable
from .subject import Trial

REMEDY = (
    "Say what to check it with: options and request in a subclass of sdcore.testing.PluginConformance, beside the "
    "plugin or in the module `conformance` of its package; or --use NAME:OPTIONS"
)
EVERY_TIER = ("cpu", "gpu", "weights")
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
"""How far a picture of a batch may be from the same one alone: networks round otherwise with more rows."""
MORE = 4.0
"""Times what the model alone differs by, where that is more: what a plugin adds is rounded too."""


@check(
    3,
    "neutral",
    "installed and not used, or switched off, it leaves no trace",
    everywhere=True,
    tiers=EVERY_TIER,
    needs=("effect",),
)
def neutral(trial: Trial) -> None:
    """Not in ``use``: bit for bit as without it. With the options that the case calls neutral: the same."""
    key = f"{trial.setting} {trial.request()}"
    if key not in trial.subject.unused:  # cases often differ in their options alone
        trial.subject.unused.add(key)
        same(trial.plain(), trial.run(use=[]), "it is loaded and not used, and the result is not as without it")
    if trial.case.neutral is not None:
        off = trial.run(use=[trial.use(**trial.case.neutral)])
        told = ", ".join(f"{name}={value!r}" for name, value in trial.case.neutral.items())
        same(trial.plain(), off, f"with {told} the result is not that of an engine without it")


@check(4, "effect", "used, it does something", everywhere=True, tiers=EVERY_TIER)
def effect(trial: Trial) -> None:
    """Latents, pixels, verdicts or what is reported differ from a run without it."""
    try:
        first, plain = trial.first, trial.plain()
    except RequestError as error:
        raise Failed(f"{error}. {REMEDY}") from error
    reports = [{name: value for name, value in report.items() if name == trial.name} for report in first.reports]
    if not difference(plain, first) and not any(reports) and not first.withheld:
        raise Failed("the result is the same as without it: latents, pixels and reports; give options that show")
    if not bool(first.latents.isfinite().all()):
        raise Failed("latents are not finite")


@check(
    5,
    "same-seed",
    "the same seed gives the same picture",
    everywhere=True,
    tiers=EVERY_TIER,
    needs=("effect", "randomness"),
)
def same_seed(trial: Trial) -> None:
    """Again on the same engine and on a fresh one: bit for bit."""
    same(trial.first, trial.run(), "the second run of the same request gave something else")
    fresh = trial.subject.engine(trial.setting)
    same(trial.first, trial.run(on=fresh), "a fresh engine gave something else")


@check(6, "order", "what ran before does not matter", needs=("same-seed",))
def order(trial: Trial) -> None:
    """B after A is what B is on an engine that never saw A, and A after B is still A."""
    other: dict[str, Any] = {"prompt": "the blue house", "seed": 11}
    alone = trial.run(on=trial.subject.engine(trial.setting), **other)
    same(alone, trial.run(**other), "after another request, a request gave something else than on a fresh engine")
    same(trial.first, trial.run(), "after another request, the first one gave something else")


@check(7, "batch", "a picture is the same alone and in a batch", everywhere=True, needs=("same-seed",))
def batch(trial: Trial) -> None:
    """Of three seeds in one batch, the one that is also the first run's."""
    seed = trial.first.seeds[0] if trial.first.seeds else None
    if seed is None:
        raise NotApplicable("the picture is withheld")
    three = trial.run(seed=None, seeds=(seed + 1, seed, seed + 2), batch_size=3)
    if len(three.latents) != 3:
        raise Failed(f"three seeds gave {len(three.latents)} pictures")
    fields = {**trial.case.request, "seed": None, "seeds": (seed + 1, seed, seed + 2), "batch_size": 3}
    rounding = apart(trial.plain().latents[0], trial.setting.plain(**fields).latents[1])
    allowed = max(TOLERANCE["float32"], MORE * rounding)
    near(trial.first.latents[0], three.latents[1], allowed, "the second of a batch of three is not itself")
