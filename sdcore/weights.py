"""Weights: patches written in place for one run, and restored from kept originals, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .calling import broke, call
from .errors import PluginError
from .laws import stamp
from .order import Stage
from .plugin import nearest
from .side_paths import SidePaths
from .stages import Branch, SidePath, Step, WeightPatch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

    from .unet import SiteContext


@dataclass(eq=False)
class _Patched:
    """One parameter with everything that changes it."""

    parameter: Parameter
    original: Tensor
    constant: list[tuple[Stage, WeightPatch, float]] = field(default_factory=list)
    scheduled: list[tuple[Stage, WeightPatch]] = field(default_factory=list)


class WeightSession:
    """The patches of one run. ``apply`` writes the constant ones, ``restore`` undoes everything.

    ``epoch`` grows whenever a weight changes, so that values computed from weights know that they are stale.
    """

    def __init__(self, targets: Mapping[str, Module], stages: Sequence[Stage], context: SiteContext) -> None:
        self.epoch = 0
        self._patched: dict[tuple[str, str], _Patched] = {}
        self._paths = SidePaths(targets["unet"], context)
        self._written: tuple[float, ...] | None = None
        parameters: dict[str, dict[str, Parameter]] = {}
        for stage in stages:
            if isinstance(stage.fn, SidePath):
                self._paths.add(stage, stage.fn)
            elif not isinstance(stage.fn, WeightPatch):
                raise broke(stage, f"it contributed {type(stage.fn).__name__}, expected WeightPatch or SidePath")
            elif stage.fn.target not in targets:
                raise broke(stage, f"this model has no {stage.fn.target!r}; it has {', '.join(targets)}")
            else:
                target = stage.fn.target
                if target not in parameters:
                    parameters[target] = dict(targets[target].named_parameters())
                self._add(parameters[target], stage, stage.fn)
        self.targets = frozenset(parameters)
        self._scheduled = [
            (entry, stage, patch) for entry in self._patched.values() for stage, patch in entry.scheduled
        ]
        self._strengths = [Stage(s.port, p.strength, s.plugin, s.version) for _, s, p in self._scheduled]

    @property
    def scheduled(self) -> bool:
        """Whether some weight depends on the step or the branch."""
        return bool(self._scheduled)

    @property
    def side_modules(self) -> frozenset[str]:
        """Names of the U-Net modules with a path beside them."""
        return self._paths.modules

    def _add(self, parameters: Mapping[str, Parameter], stage: Stage, patch: WeightPatch) -> None:
        if patch.key not in parameters:
            raise broke(stage, f"{patch.target} has no parameter {patch.key!r}.{nearest(patch.key, parameters)}")
        entry = self._patched.get((patch.target, patch.key))
        if entry is None:
            parameter = parameters[patch.key]
            entry = self._patched[patch.target, patch.key] = _Patched(parameter, parameter.detach().clone())
        if not callable(patch.strength):
            entry.constant.append((stage, patch, float(patch.strength)))
        elif patch.target == "unet":
            entry.scheduled.append((stage, patch))
        else:
            raise broke(stage, f"the strength of {patch.key!r} in {patch.target} must be a number")

    def apply(self) -> None:
        """Write the constant patches and attach the side paths."""
        self.epoch += 1
        for entry in self._patched.values():
            for stage, patch in entry.scheduled:
                _delta(entry, stage, patch)  # what is wrong with it shows now, not in the middle of the run
            if entry.constant:
                _write(entry, entry.constant)
        self._paths.attach()

    def groups(self, step: Step, branches: Sequence[Branch]) -> list[tuple[tuple[float, ...], list[str]]]:
        """Strengths of the scheduled patches, and the branches that share them."""
        grouped: dict[tuple[float, ...], list[str]] = {}
        for branch in branches:
            strengths = tuple(float(call(stage, step, branch, step=step.index)) for stage in self._strengths)
            grouped.setdefault(strengths, []).append(branch.id)
        return list(grouped.items())

    def write(self, strengths: tuple[float, ...]) -> None:
        """Write the scheduled patches at these strengths, unless they are written already."""
        if strengths == self._written:
            return
        by_entry: dict[int, list[tuple[Stage, WeightPatch, float]]] = {}
        for (entry, stage, patch), strength in zip(self._scheduled, strengths, strict=True):
            by_entry.setdefault(id(entry), []).append((stage, patch, strength))
        self._written = None
        for entry in self._patched.values():
            if id(entry) in by_entry:
                _write(entry, entry.constant + by_entry[id(entry)])
        self._written = strengths
        self.epoch += 1

    def restore(self) -> None:
        """Put every original back, exactly, and detach the side paths."""
        self._paths.detach()
        for entry in self._patched.values():
            entry.parameter.data.copy_(entry.original)
        self._written = None
        self.epoch += 1


def _write(entry: _Patched, patches: Sequence[tuple[Stage, WeightPatch, float]]) -> None:
    import torch

    # Half precision would round once per patch; the sum is made in float32 and rounded once.
    half = entry.original.dtype in (torch.float16, torch.bfloat16)
    total = entry.original.float() if half else entry.original
    for stage, patch, strength in patches:
        if strength:
            total = total + strength * _delta(entry, stage, patch).to(total)
    entry.parameter.data.copy_(total)


def _delta(entry: _Patched, stage: Stage, patch: WeightPatch) -> Tensor:
    """The change that a patch makes to its weight at strength 1."""
    before = stamp(entry.original)
    delta: Callable[[Tensor], Any] = patch.delta
    try:
        found: Any = call(Stage(stage.port, delta, stage.plugin, stage.version), entry.original)
    except PluginError:
        # It is called once before anything is written, so the weight itself is still what it was.
        if stamp(entry.original) != before:
            entry.original.copy_(entry.parameter)
        raise
    if getattr(found, "shape", None) != entry.original.shape:
        given = tuple(found.shape) if hasattr(found, "shape") else type(found).__name__
        wanted = tuple(entry.original.shape)
        raise broke(stage, f"the change of {patch.key!r} is {given}, expected a tensor of the weight's shape {wanted}")
    return found  # type: ignore[no-any-return]
