"""The preprocessor of a training: control pictures of pictures, with options that may vary from visit to visit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore.preprocessing import Preprocessor
from sdcore_controlnet.preprocess.api import find, options_for

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Generator

Ranges = Mapping[str, tuple[float, float]]
MOST_CORNERS = 64


@dataclass(frozen=True)
class Maker:
    """Makes control pictures.

    Attributes:
        preprocessor: what makes them.
        fields: its options, as the user gave them.
        vary: ranges of further options, drawn for every visit.
    """

    preprocessor: Preprocessor
    fields: Mapping[str, Any]
    vary: Ranges

    def make(self, picture: NDArray[Any], generator: Generator) -> NDArray[Any]:
        """The control picture of a picture: uint8 (height, width, 3) both.

        Args:
            picture: as the batch has it.
            generator: decides the options that vary; untouched if there are none.
        """
        import numpy as np
        from PIL import Image

        options = options_for(self.preprocessor, {**self.fields, **drawn(self.vary, generator)})
        return np.array(self.preprocessor.run(Image.fromarray(picture), options).convert("RGB"))

    @property
    def identity(self) -> str:
        """The same for makers that make the same; not for those that vary."""
        options = options_for(self.preprocessor, self.fields)
        told = {} if options is None else options.model_dump(mode="json")
        return f"{self.preprocessor.name} {json.dumps(told, sort_keys=True)}"


def drawn(ranges: Ranges, generator: Generator) -> dict[str, float]:
    """A value from each range, evenly, in the order of their names. Whole numbers where both ends are."""
    import torch

    found: dict[str, float] = {}
    for name, (low, high) in sorted(ranges.items()):
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        whole = float(low).is_integer() and float(high).is_integer()
        found[name] = int(low + share * (high - low + 1)) if whole else low + share * (high - low)
        found[name] = min(found[name], high)
    return found


def make_maker(name: str, known: Mapping[str, Preprocessor], fields: Mapping[str, Any], vary: Ranges) -> Maker:
    """The maker that the options of a training describe, checked.

    Args:
        name: of the preprocessor.
        known: preprocessors by name.
        fields: its options.
        vary: ranges of options.

    Raises:
        RequestError: there is no such preprocessor or option, a value or an end of a range is refused, or it needs
            what is not installed.
    """
    chosen = find(name, known)
    if chosen.needs and "extra" in chosen.needs:
        raise RequestError(f"preprocessor {chosen.name!r} needs {chosen.needs}")
    if vary and chosen.options is None:
        raise RequestError(f"preprocessor {chosen.name!r} has no options, so none can vary")
    for corner in itertools.islice(itertools.product(*(sorted(set(ends)) for ends in vary.values())), MOST_CORNERS):
        options_for(chosen, {**fields, **dict(zip(vary, corner, strict=True))})
    return Maker(chosen, dict(fields), dict(vary))


def try_out(maker: Maker, generator: Generator) -> None:
    """Make one control picture, so that a network that is missing is told before the training.

    Raises:
        RequestError, ModelError: it does not work.
    """
    import numpy as np

    maker.make(np.zeros((64, 64, 3), np.uint8), generator)
