"""From a bound file to changes of weights: what the core merges, or runs beside a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import deltas
from .binding import Bound
from .scales import scale_of

if TYPE_CHECKING:
    from torch import Tensor

    from .library import Entry


@dataclass(frozen=True, eq=False)
class Change:
    """The change of one module.

    Attributes:
        bound: the layer, and the module's name in the model.
        parts: its tensors.
        scale: alpha / rank.
    """

    bound: Bound
    parts: Mapping[str, Tensor]
    scale: float

    def of_weight(self, weight: Tensor) -> Tensor:
        """The change of the weight, float32, from the original."""
        change = self.scale * deltas.delta(self.bound.layer.algorithm, self.parts, weight)
        if "dora" in self.parts:
            return deltas.with_magnitude(weight, change, self.parts["dora"])
        return change

    def of_bias(self, bias: Tensor) -> Tensor:
        """The change of the bias, float32."""
        change = deltas.bias_delta(self.bound.layer.algorithm, self.parts, bias)
        assert change is not None
        return self.scale * change

    def parameters(self) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
        """Names of the parameters that it changes, and functions from the original to the change."""
        name = self.bound.parameter
        if self.bound.layer.shape is not None:
            yield f"{name}.weight", self.of_weight
        if self.bound.has_bias and {"up_bias", "diff_b", "b_norm"} & self.parts.keys():
            yield f"{name}.bias", self.of_bias


def changes_of(entry: Entry) -> list[Change]:
    """All changes that a file makes to the model.

    Raises:
        ModelError: the file is damaged.
    """
    tensors = entry.tensors()
    found = []
    for bound in entry.binding.bound:
        layer = bound.layer
        parts: dict[str, Any] = {part: tensors[key] for part, key in layer.keys.items()}
        alpha = float(parts.pop("alpha")) if "alpha" in parts else None
        settings = entry.contents.settings
        own = settings.get(layer.component, settings.get("", {})) if alpha is None else {}
        shapes = {part: entry.contents.shapes[key] for part, key in layer.keys.items()}
        scale = scale_of(layer.algorithm, shapes, alpha, own, layer.module)
        found.append(Change(bound, parts, scale))
    return found
