"""Where a drawing lies in the picture, and at which size it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcore import GenerateRequest, Run

from .crop import Box, crop_region, cut_middle, fit_inside, marked_box

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Placement:
    """Where a drawing lies.

    Attributes:
        box: the part of the picture that is drawn, or None for all of it.
        working: the size at which the passes draw.
        exact: the whole picture is drawn at its own size, apart from what rounding took.
    """

    box: Box | None
    working: Size
    exact: bool

    def inwards(self, picture: Image) -> Image:
        """The part of a picture or mask that the passes draw on."""
        return picture if self.box is None else fit_inside(picture.crop(self.box), *self.working)

    def outwards(self, drawn: Image, picture: Image) -> tuple[Image, bool]:
        """What was drawn, in its place; and whether it covers the whole picture."""
        from PIL.Image import Resampling

        if self.box is None:
            if self.exact and drawn.size == self.working:
                drawn = drawn if drawn.size == picture.size else drawn.resize(picture.size, Resampling.LANCZOS)
            return drawn, True
        left, top, right, bottom = self.box
        whole = picture.copy()
        whole.paste(cut_middle(drawn, right - left, bottom - top), (left, top))
        return whole, False


def native_size(run: Run) -> Size:
    """The size that the model was trained at, as its configuration has it."""
    sample = getattr(run.model.unet.config, "sample_size", None) or 64
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return width * run.model.vae_scale_factor, height * run.model.vae_scale_factor


def rounded(size: Size, factor: int) -> Size:
    """What a request draws a picture of this size at, if it asks for none."""
    return max(size[0] // factor, 1) * factor, max(size[1] // factor, 1) * factor


def place(run: Run, request: GenerateRequest, size: Size, mask: Image, *, only_masked: bool, padding: int) -> Placement:
    """Where the drawing of a request lies in a picture of this size.

    Only what is marked is drawn at the size that the request asks for. A request that asks for the picture's own
    size has, as far as can be told, not asked; then it is the model's own, in the proportions of the part.
    """
    assert request.width is not None
    assert request.height is not None
    asked = request.width, request.height
    factor = run.model.vae_scale_factor
    is_default = asked == rounded(size, factor)
    marked = marked_box(mask) if only_masked else None
    if marked is None:
        return Placement(None, asked, is_default)
    working = native_size(run) if is_default else asked
    box = crop_region(marked, size, working, padding)
    if is_default:
        working = like(working, (box[2] - box[0], box[3] - box[1]), factor)
    return Placement(box, working, False)


def like(native: Size, part: Size, factor: int) -> Size:
    """About as many pixels as ``native``, in the proportions of ``part``, in multiples of ``factor``."""
    proportion = part[0] / part[1]
    if abs(proportion / (native[0] / native[1]) - 1) < 0.02:
        return native
    width = (native[0] * native[1] * proportion) ** 0.5
    return max(round(width / factor), 1) * factor, max(round(width / proportion / factor), 1) * factor
