"""Weights: patches written in place for one run, and restored from kept originals, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .calling import broke, call
from .order import Stage
from .plugin import nearest
from .stages import Branch, SidePath, Step, WeightPatch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

    from .unet import SiteContext

TARGETS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(eq=False)
class _Patched:
    """One parameter with everything that changes it."""

    parameter: Parameter
    original: Tensor
    constant: list[tuple[Stage, WeightPatch]] = field(default_factory=list)
    scheduled: list[tuple[Stage, WeightPatch]] = field(default_factory=list)


class WeightSession:
    """The patches of one run. ``apply`` writes the constant ones, ``restore`` undoes everything.

    ``epoch`` grows whenever a weight changes, so that values computed from weights know that they are stale.
    """

    def __init__(self, targets: dict[str, Module], stages: Sequence[Stage], context: SiteContext) -> None:
        self.epoch = 0
        self._context = context
        self._patched: dict[tuple[str, str], _Patched] = {}
        self._paths: dict[str, list[tuple[Stage, SidePath]]] = {}
        self._attached: list[Module] = []
        self._written: tuple[float, ...] | None = None
        self._unet = targets.get("unet")
        self.targets = frozenset(stage.fn.target for stage in stages if isinstance(stage.fn, WeightPatch))
        for stage in stages:
            if isinstance(stage.fn, WeightPatch):
                self._add_patch(targets, stage, stage.fn)
            elif isinstance(stage.fn, SidePath):
                self._paths.setdefault(stage.fn.module, []).append((stage, stage.fn))
            else:
                raise broke(stage, f"it contributed {type(stage.fn).__name__}, expected WeightPatch or SidePath")
        self._scheduled = [
            (entry, stage, patch) for entry in self._patched.values() for stage, patch in entry.scheduled
        ]

    @property
    def scheduled(self) -> bool:
        """Whether some weight depends on the step or the branch."""
        return bool(self._scheduled)

    @property
    def side_modules(self) -> frozenset[str]:
        """Names of the U-Net modules with a path beside them."""
        return frozenset(self._paths)

    def _add_patch(self, targets: dict[str, Module], stage: Stage, patch: WeightPatch) -> None:
        module = targets.get(patch.target)
        if module is None:
            raise broke(stage, f"this model has no {patch.target!r}; it has {', '.join(targets)}")
        key = (patch.target, patch.key)
        if key not in self._patched:
            parameters = dict(module.named_parameters())
            if patch.key not in parameters:
                raise broke(stage, f"{patch.target} has no parameter {patch.key!r}.{nearest(patch.key, parameters)}")
            parameter = parameters[patch.key]
            self._patched[key] = _Patched(parameter, parameter.detach().clone())
        entry = self._patched[key]
        if callable(patch.strength):
            if patch.target != "unet":
                raise broke(stage, f"the strength of {patch.key!r} in {patch.target} must be a number")
            entry.scheduled.append((stage, patch))
        elif patch.strength:
            entry.constant.append((stage, patch))

    def apply(self) -> None:
        """Write the constant patches and attach the side paths."""
        self.epoch += 1
        for entry in self._patched.values():
            if entry.constant:
                self._write(entry, [(stage, patch, float(patch.strength)) for stage, patch in entry.constant])  # type: ignore[arg-type]
        for name, paths in self._paths.items():
            self._attach(name, paths)

    def groups(self, step: Step, branches: Sequence[Branch]) -> list[tuple[tuple[float, ...], list[str]]]:
        """Strengths of the scheduled patches, and the branches that share them."""
        grouped: dict[tuple[float, ...], list[str]] = {}
        for branch in branches:
            strengths = tuple(
                float(call(stage, step, branch, step=step.index))
                for stage in (Stage(s.port, p.strength, s.plugin, s.version) for _, s, p in self._scheduled)
            )
            grouped.setdefault(strengths, []).append(branch.id)
        return list(grouped.items())

    def write(self, strengths: tuple[float, ...]) -> None:
        """Write the scheduled patches at these strengths, unless they are written already."""
        if strengths == self._written:
            return
        by_entry: dict[int, list[tuple[Stage, WeightPatch, float]]] = {}
        for (entry, stage, patch), strength in zip(self._scheduled, strengths, strict=True):
            by_entry.setdefault(id(entry), []).append((stage, patch, strength))
        for entry in self._patched.values():
            if id(entry) in by_entry:
                constant = [(stage, patch, float(patch.strength)) for stage, patch in entry.constant]  # type: ignore[arg-type]
                self._write(entry, constant + by_entry[id(entry)])
        self._written = strengths
        self.epoch += 1

    def _write(self, entry: _Patched, patches: list[tuple[Stage, WeightPatch, float]]) -> None:
        import torch

        # Half precision would round once per patch; the sum is made in float32 and rounded once.
        total = entry.original.float() if entry.original.dtype in (torch.float16, torch.bfloat16) else entry.original
        for stage, patch, strength in patches:
            if not strength:
                continue
            delta: Tensor = call(Stage(stage.port, patch.delta, stage.plugin, stage.version), entry.original)
            if delta.shape != entry.original.shape:
                raise broke(
                    stage,
                    f"the change of {patch.key!r} has shape {tuple(delta.shape)}, the weight {tuple(entry.original.shape)}",
                )
            total = total + strength * delta.to(total)
        entry.parameter.data.copy_(total)

    def _attach(self, name: str, paths: list[tuple[Stage, SidePath]]) -> None:
        assert self._unet is not None
        try:
            module = self._unet.get_submodule(name)
        except AttributeError:
            known = [n for n, _ in self._unet.named_modules()]
            raise broke(paths[0][0], f"the U-Net has no module {name!r}.{nearest(name, known)}") from None
        original, context = module.forward, self._context

        def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            output: Tensor = original(hidden, *args, **kwargs)
            for stage, path in paths:
                output = _beside(stage, path, hidden, output, context)
            return output

        module.forward = forward
        self._attached.append(module)

    def restore(self) -> None:
        """Put every original back, exactly, and detach the side paths."""
        for module in self._attached:
            module.__dict__.pop("forward", None)
        self._attached.clear()
        for entry in self._patched.values():
            entry.parameter.data.copy_(entry.original)
        self._written = None
        self.epoch += 1


def _beside(stage: Stage, path: SidePath, hidden: Tensor, output: Tensor, context: SiteContext) -> Tensor:
    step = context.step
    strength: Callable[[Step, Branch], float] | float = path.strength
    if not callable(strength):
        factors = [float(strength)] * len(context.branches)
    else:
        at = Stage(stage.port, strength, stage.plugin, stage.version)
        factors = [float(call(at, step, branch, step=step.index)) for branch in context.branches]
    if not any(factors):
        return output
    run = Stage(stage.port, path.path, stage.plugin, stage.version)
    if len(set(factors)) == 1:
        added: Tensor = call(run, hidden, step=step.index)
        return output + factors[0] * added
    output = output.clone()
    for branch, factor in zip(context.branches, factors, strict=True):
        if factor:
            rows = context.rows[branch.id]
            output[rows] += factor * call(run, hidden[rows], step=step.index)
    return output
