"""Side paths: what plugins add to the output of modules of the U-Net, for the time of one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .calling import broke, call, checked
from .order import Stage
from .plugin import nearest
from .stages import SidePath

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from .unet import SiteContext


@dataclass(frozen=True)
class _Path:
    """A side path with its functions as stages, so that their errors have a name."""

    stage: Stage
    run: Stage
    strength: Stage | None
    constant: float


class SidePaths:
    """The paths of one run, by module. ``attach`` puts them on, ``detach`` takes everything off."""

    def __init__(self, unet: Module, context: SiteContext) -> None:
        self._unet, self._context = unet, context
        self._paths: dict[str, tuple[Module, list[_Path]]] = {}
        self._attached: list[tuple[Module, Any]] = []

    @property
    def modules(self) -> frozenset[str]:
        """Names of the modules with a path beside them."""
        return frozenset(self._paths)

    def add(self, stage: Stage, path: SidePath) -> None:
        """Note a path; an unknown module is an error with the nearest name."""
        if path.module not in self._paths:
            try:
                self._paths[path.module] = (self._unet.get_submodule(path.module), [])
            except AttributeError:
                known = [name for name, _ in self._unet.named_modules() if name]
                raise broke(stage, f"the U-Net has no module {path.module!r}.{nearest(path.module, known)}") from None
        varies = callable(path.strength)
        strength = Stage(stage.port, path.strength, stage.plugin, stage.version) if varies else None
        run = Stage(stage.port, path.path, stage.plugin, stage.version)
        self._paths[path.module][1].append(_Path(stage, run, strength, 0.0 if varies else float(path.strength)))  # type: ignore[arg-type]

    def attach(self) -> None:
        """Put the paths on their modules."""
        for module, paths in self._paths.values():
            self._attached.append((module, module.__dict__.get("forward")))
            module.forward = _beside(module.forward, tuple(paths), self._context)

    def detach(self) -> None:
        """Take them off: the modules are as they were."""
        for module, before in reversed(self._attached):
            module.__dict__.pop("forward", None)
            if before is not None:
                module.forward = before
        self._attached.clear()


def _beside(original: Callable[..., Any], paths: tuple[_Path, ...], context: SiteContext) -> Callable[..., Tensor]:
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        output: Any = original(*args, **kwargs)
        hidden: Tensor = args[0] if args else next(iter(kwargs.values()))
        for path in paths:
            output = _added(path, hidden, output, context)
        return output  # type: ignore[no-any-return]

    return forward


def _added(path: _Path, hidden: Tensor, output: Any, context: SiteContext) -> Any:
    step = context.step
    if not hasattr(output, "shape"):
        problem = "its module does not return one tensor; put the path beside a module inside it"
        raise broke(path.stage, problem, step.index)
    if path.strength is None:
        factors = [path.constant]
    else:
        factors = [float(call(path.strength, step, branch, step=step.index)) for branch in context.branches]
    if not any(factors):
        return output
    if len(set(factors)) == 1:
        added: Tensor = checked(path.run, output, call(path.run, hidden, step=step.index), step.index)
        return output + factors[0] * added
    output = output.clone()
    for branch, factor in zip(context.branches, factors, strict=True):
        if factor:
            rows = context.rows[branch.id]
            added = checked(path.run, output[rows], call(path.run, hidden[rows], step=step.index), step.index)
            output[rows] += factor * added
    return output
