"""What cannot work, found before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sdcore import Run

from . import mask_latent
from .options import Inpaint, Outpaint
from .placement import place

if TYPE_CHECKING:
    from PIL.Image import Image


def problems(run: Run, mask_of: Callable[[Inpaint], Image]) -> list[str]:
    """What is wrong with a request to inpaint.

    Raises:
        ImageError: the mask cannot be read, or does not fit the picture.
    """
    uses = run.uses(Inpaint)
    if not uses:
        return ["it needs options: use=[Inpaint(mask=...)] (--use inpaint:mask=FILE)"]
    if len(uses) > 1:
        return [f"it is used {len(uses)} times; paint all masks into one"]
    if run.uses(Outpaint):
        return ["it cannot share a run with outpaint; enlarge the canvas first, then inpaint the result"]
    found = picture_problems(run, "mask")
    if found:
        return found
    options = uses[0]
    if options.only_masked and run.request.output == "latent":
        found.append("only_masked pastes pictures together, and output is 'latent'; leave one of them out")
    mask = mask_of(options)
    return found + (mask_problems(mask, options) or size_problems(run, mask, options))


def picture_problems(run: Run, what: str) -> list[str]:
    """What is wrong with the request's picture and model for any drawing on a picture."""
    found = []
    image: Any = run.request.image
    if image is None:
        found.append("there is no picture; give the request an image")
    elif not hasattr(image, "size") or hasattr(image, "shape"):
        found.append(f"the image is latents; give the picture itself, which the {what} belongs to")
    if run.model.task not in ("text", "inpaint"):
        found.append(f"the U-Net is made for another task ({run.model.task}); use an ordinary or an inpainting model")
    return found


def mask_problems(mask: Image, options: Inpaint) -> list[str]:
    """Nothing marked, or everything."""
    low, high = mask.getextrema()
    invert = "invert=False" if options.invert else "invert=True"
    changed = " after it was edited" if options.grow or options.shrink or options.blur or options.invert else ""
    if high == 0:
        return [f"the mask is black everywhere{changed}: nothing is to be redrawn. White is redrawn; see {invert}"]
    if options.softness == "hard" and high < 128:  # type: ignore[operator]
        return [
            f"the mask is darker than half grey everywhere{changed} (lightest {high}): with softness='hard' nothing is "
            "to be redrawn; use softness='soft' or 'differential', or a lighter mask"
        ]
    if low == 255 or (options.softness == "hard" and low >= 128):  # type: ignore[operator]
        return [
            f"the mask marks the whole picture{changed}: leave inpaint out and give image and strength alone (image to "
            f"image), or see {invert}"
        ]
    return []


def size_problems(run: Run, mask: Image, options: Inpaint) -> list[str]:
    """What is marked, but too small for the places of the latents."""
    placed = place(
        run, run.request, run.request.image.size, mask, only_masked=options.only_masked, padding=options.padding
    )
    factor = run.model.vae_scale_factor
    width, height = placed.working
    if options.softness != "hard":
        return []
    pixels = mask_latent.binary(mask_latent.mask_to_tensor(placed.inwards(mask), height, width))
    marked = mask_latent.nearest(pixels, height // factor, width // factor)
    if bool(marked.any()):
        return []
    return [
        f"what the mask marks falls between the places of the latents, {factor} pixels apart: use grow={factor} or more"
        + ("" if options.only_masked else ", or only_masked=True")
    ]
