"""Preprocessors: from a picture to what a control wants to see (edges, depth, a pose), by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .plugin import Options

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Preprocessor:
    """What ``registry.add("preprocessor", name, ...)`` takes, in a plugin's hook ``register``.

    Attributes:
        name: as users write it, such as ``"canny"``.
        about: one line for people.
        run: ``(image, options) -> image``: RGB to RGB of the same size. ``options`` is an instance of ``options``, or
            None where there are none. The same picture and options give the same result; nothing is kept but
            loaded weights.
        options: the class of its options, or None.
        needs: empty if it works at once; else what it needs, in a line that says how to get it.
        kinds: the kinds of control that its pictures are for, such as ``("canny",)``.
    """

    name: str
    about: str
    run: Callable[[Image, Any], Image]
    options: type[Options] | None = None
    needs: str = ""
    kinds: tuple[str, ...] = ()
