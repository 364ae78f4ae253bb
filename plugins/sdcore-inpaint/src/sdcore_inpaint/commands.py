"""The commands ``sdcore inpaint`` and ``sdcore outpaint``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import GenerateRequest, Options, RequestError

from .options import Inpaint, Outpaint

if TYPE_CHECKING:
    from PIL.Image import Image

_CANVAS = {"width": "canvas-width", "height": "canvas-height"}


def fill_inpaint(parser: argparse.ArgumentParser) -> None:
    """Redraw what a mask marks in a picture."""
    from sdcore.cli.kit import add_options_flags

    _fill(parser, "Redraw what a mask marks in a picture.", inpaint)
    # A parser gives the prompt away when it meets the first flag; so what stands behind the mask may be the prompt.
    parser.add_argument(
        "--mask", nargs="+", required=True, metavar=("FILE", "PROMPT"), help="white is redrawn, black is kept"
    )
    add_options_flags(parser, Inpaint, skip=("mask",))


def fill_outpaint(parser: argparse.ArgumentParser) -> None:
    """Make a picture's canvas larger, and draw what is new."""
    from sdcore.cli.kit import add_options_flags

    _fill(parser, "Make a picture's canvas larger, and draw what is new.", outpaint)
    add_options_flags(parser, Outpaint, spell=_CANVAS)


def _fill(parser: argparse.ArgumentParser, about: str, run: Callable[[argparse.Namespace], int]) -> None:
    from sdcore.cli.kit import add_engine_flags, add_output_flags, add_request_flags

    parser.description = f"{about} The strength is 1 unless --strength says otherwise."
    parser.add_argument("picture", metavar="PICTURE", help="the picture to draw on; the prompt stands behind it")
    add_request_flags(parser)
    add_engine_flags(parser)
    add_output_flags(parser)
    parser.set_defaults(func=run)


def inpaint(args: argparse.Namespace) -> int:
    """Carry out ``sdcore inpaint``."""
    from sdcore.cli.kit import options_of

    from .mask_source import read_mask

    mask, *words = args.mask
    if len(words) > 1 or (words and args.prompt is not None):
        raise RequestError(f"what is {words[-1]!r}? Give one mask and one prompt, the prompt in quotation marks")
    if words:
        args.prompt = words[0]
    return _draw(args, options_of(args, Inpaint, mask=mask), lambda picture: ("mask", read_mask(mask).convert("RGB")))


def outpaint(args: argparse.Namespace) -> int:
    """Carry out ``sdcore outpaint``."""
    from sdcore.cli.kit import options_of

    options = options_of(args, Outpaint)
    return _draw(args, options, lambda picture: ("canvas", _canvas(options, picture)))


def _draw(args: argparse.Namespace, options: Options, between: Callable[[Image], tuple[str, Image]]) -> int:
    """Draw, and write the sheet: before, what was redrawn, after."""
    from sdcore.cli.kit import draw, request_of, say
    from sdcore.files import check_writable
    from sdcore.picture_files import format_of

    sheet, args.sheet = args.sheet, None
    if sheet:
        format_of(sheet)
        check_writable(sheet, args.overwrite)
    request = request_of(args, image=args.picture)
    if request.strength is None and request.denoising_start is None:
        request = request.replace(strength=1.0)
    request = request.replace(use=(options, *request.use))
    result, _ = draw(args, request)
    if sheet:
        say(_write_sheet(sheet, args, request, between, result.images, result.seeds))
    return 0


def _write_sheet(
    sheet: str,
    args: argparse.Namespace,
    request: GenerateRequest,
    between: Callable[[Image], tuple[str, Image]],
    images: Sequence[Image],
    seeds: Sequence[int],
) -> Path:
    from sdcore.files import write_atomic
    from sdcore.images import contact_sheet, load_image
    from sdcore.picture_files import encode_image

    before = load_image(request.image)
    name, shown = between(before)
    labels = ["before", name, *(f"after, seed {seed}" for seed in seeds)]
    pictures = [before, shown, *images]
    made = contact_sheet(
        pictures, columns=min(len(pictures), 5), labels=labels, title=request.prompt or None, cell=_cell(images)
    )  # fmt: skip
    data = encode_image(made, format_of_sheet(sheet), None, quality=args.quality)
    return write_atomic(sheet, data, overwrite=args.overwrite)


def format_of_sheet(sheet: str) -> Any:
    """The format that a file name stands for."""
    from sdcore.picture_files import format_of

    return format_of(sheet)


def _cell(images: Sequence[Image]) -> tuple[int, int]:
    """The size of a picture on the sheet: its own, small ones enlarged by a whole factor."""
    width, height = max(image.width for image in images), max(image.height for image in images)
    times = max(1, 256 // max(width, height))
    return width * times, height * times


def _canvas(options: Outpaint, picture: Image) -> Image:
    """The picture on its new canvas, what is new in grey."""
    from PIL import Image

    left, top, wide, high = options.box(*picture.size)
    canvas = Image.new("RGB", (wide, high), (150, 150, 156))
    canvas.paste(picture, (left, top))
    return canvas
