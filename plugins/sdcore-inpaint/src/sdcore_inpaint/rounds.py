"""How a canvas grows: in which windows, one after the other, its new area is drawn. Plain arithmetic."""

from __future__ import annotations

from .crop import Box

Size = tuple[int, int]
ROOM = 1.5
"""A window may hold this many times the pixels that the model was trained on: a picture is then drawn in one piece."""


def windows(picture: Box, canvas: Size, native: Size, limit: int | None = None) -> list[Box]:
    """The windows, in order. Each holds something known, and after the last nothing is left to draw.

    A window along a side may find that one before it has drawn its part already, and can then be left out.

    In each round the known part grows by at most ``limit`` on every side. If the grown part is no larger than
    a model likes, it is one window. Else each side in turn is drawn in windows of the model's own size along it.

    Args:
        picture: where the picture lies in the canvas.
        canvas: (width, height) of the result.
        native: (width, height) that the model was trained at.
        limit: most pixels to add on a side in a round; None is half of ``native``.
    """
    across, down = (limit, limit) if limit is not None else (max(native[0] // 2, 8), max(native[1] // 2, 8))
    found: list[Box] = []
    known = picture
    while known != (0, 0, *canvas):
        left, top, right, bottom = known
        grown = (
            max(left - across, 0),
            max(top - down, 0),
            min(right + across, canvas[0]),
            min(bottom + down, canvas[1]),
        )
        wide, high = grown[2] - grown[0], grown[3] - grown[1]
        if wide * high <= ROOM * native[0] * native[1]:
            found.append(grown)
        else:
            found += _sides(known, grown, native)
        known = grown
    return found


def _sides(known: Box, grown: Box, native: Size) -> list[Box]:
    """Windows along each side that grows: left, right, top, bottom; the later ones with the corners."""
    left, top, right, bottom = known
    found: list[Box] = []
    for side in (0, 2):
        if grown[side] != known[side]:
            wide = min(max(native[0], abs(grown[side] - known[side]) * 4 // 3), grown[2] - grown[0])
            start = grown[0] if side == 0 else grown[2] - wide
            found += [(start, low, start + wide, high) for low, high in _pieces(top, bottom, native[1])]
    left, right = grown[0], grown[2]
    for side in (1, 3):
        if grown[side] != known[side]:
            tall = min(max(native[1], abs(grown[side] - known[side]) * 4 // 3), grown[3] - grown[1])
            start = grown[1] if side == 1 else grown[3] - tall
            found += [(low, start, high, start + tall) for low, high in _pieces(left, right, native[0])]
    return found


def _pieces(low: int, high: int, length: int) -> list[tuple[int, int]]:
    """An interval in overlapping pieces of one length, at least a quarter of it in common with the next."""
    if high - low <= length:
        return [(low, high)]
    step = max(length - length // 4, 1)
    count = -(-(high - low - length) // step) + 1
    starts = [low + round(place * (high - low - length) / (count - 1)) for place in range(count)]
    return [(start, start + length) for start in starts]


def working_size(window: Size, native: Size, factor: int) -> Size:
    """The size at which a window is drawn: as large as a model likes, in its proportions, a multiple of ``factor``."""
    area, liked = window[0] * window[1], native[0] * native[1]
    scale = (liked / area) ** 0.5 if area < liked else min(1.0, (ROOM * liked / area) ** 0.5)
    width, height = (max(round(side * scale / factor), 1) * factor for side in window)
    return width, height
