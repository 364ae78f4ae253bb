"""What the stages around a run tell the stages inside it: which pictures are drawn on, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sdcore import Run, StateKey

if TYPE_CHECKING:
    from PIL.Image import Image

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Canvas:
    """The part of the picture that passes draw on.

    Attributes:
        pictures: one for every picture of the batch, or one for all; mode "RGB", all of one size.
        mask: mode "L", of that size; white is redrawn.
        window: the request's window that they fill, or None for the whole picture.
        softness: how grey is understood: "hard", "soft" or "differential".
        content: what the marked part holds before noise is added.
        fill: how ``content="fill"`` is made.
    """

    pictures: tuple[Image, ...]
    mask: Image
    window: Window | None
    softness: Literal["hard", "soft", "differential"]
    content: Literal["original", "fill", "noise", "nothing"]
    fill: Literal["edge", "mean"]

    def picture(self, index: int) -> Image:
        """The picture of place ``index`` in the batch."""
        return self.pictures[index if len(self.pictures) > 1 else 0]

    @property
    def hard(self) -> bool:
        """Whether the mask is binary."""
        return self.softness == "hard"

    def seen_through(self, window: Window | None) -> Canvas:
        """The part of this canvas that a window of the request shows: the canvas itself, unless a stage in between
        cuts further.
        """
        if window is None or window == self.window:
            return self
        from sdcore.images import cut_window

        part = inner_window(self.window, window)
        pictures = tuple(cut_window(picture, part) for picture in self.pictures)
        return Canvas(pictures, cut_window(self.mask, part), window, self.softness, self.content, self.fill)


CANVAS: StateKey[Canvas] = StateKey("inpaint canvas")


def canvas_of(run: Run) -> Canvas:
    """The canvas of a pass."""
    return (run.outer or run).state[CANVAS].seen_through(run.request.window)


def inner_window(outer: Window | None, inner: Window) -> Window:
    """A window of the whole picture, as fractions of another window that holds it."""
    if outer is None:
        return inner
    left, top, right, bottom = outer
    wide, high = right - left, bottom - top
    edges = (inner[0] - left) / wide, (inner[1] - top) / high, (inner[2] - left) / wide, (inner[3] - top) / high
    return _clamped(edges)


def outer_window(outer: Window | None, inner: Window) -> Window:
    """A part of a window, as fractions of the whole picture."""
    if outer is None:
        return inner
    left, top, right, bottom = outer
    wide, high = right - left, bottom - top
    return _clamped((left + inner[0] * wide, top + inner[1] * high, left + inner[2] * wide, top + inner[3] * high))


def window_of(box: tuple[int, int, int, int], size: tuple[int, int]) -> Window:
    """A box in pixels as fractions of a picture of this (width, height)."""
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]


def _clamped(edges: Window) -> Window:
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return left, top, right, bottom
