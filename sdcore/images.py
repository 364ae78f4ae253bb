"""Pictures in and out: reading what a user gave, and the way between pictures and tensors.

A picture given as input is untrusted. Only plain raster formats are tried (nothing that starts another
program), and the size is checked from the header, before anything is decoded.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, ImageOps

from .contact_sheet import contact_sheet
from .errors import ImageError, SdcoreError
from .picture_source import BROKEN, FORMATS, data_uri_bytes, open_header, open_picture_file, shortened

if TYPE_CHECKING:
    import torch

__all__ = [
    "FORMATS",
    "MIN_SIDE",
    "contact_sheet",
    "cut_window",
    "image_sha256",
    "image_to_tensor",
    "load_image",
    "tensors_to_images",
]

MIN_SIDE = 8


def load_image(
    source: str | Path | bytes | Image.Image,
    *,
    max_pixels: int = 64_000_000,
    keep_alpha: bool = False,
    name: str = "image",
) -> Image.Image:
    """Read a picture and return it as a fully decoded copy in mode ``"RGB"``, 8 bits a channel.

    The EXIF orientation is applied. Transparency is composited onto white, or kept as mode ``"RGBA"`` with
    ``keep_alpha=True`` (pictures without transparency are ``"RGB"`` either way). 16-bit grey is scaled to
    8 bits, not clipped; 32-bit integers are taken for 16-bit values, floats for 0 to 1. Of an animation the
    first frame is taken. Embedded colour profiles are not applied, and no metadata of the file (a place,
    a camera) stays on the picture that is returned.

    Args:
        source: a path, the bytes of a picture file, a ``data:image/...;base64,...`` URI, or a picture of
            Pillow, which is left as it was.
        max_pixels: the most pixels, width times height, that are decoded.
        keep_alpha: keep transparency instead of putting white behind it.
        name: what errors call the picture, such as the request field that it came from.

    Raises:
        ImageError: the file is missing, truncated, not a picture, smaller than 8 pixels on a side, larger
            than ``max_pixels``, or of values that cannot be brought to 8 bits.
    """
    if isinstance(source, Image.Image):
        _check_size(source, f"{name}: the given picture", max_pixels)
        return _to_rgb(source, f"{name}: the given picture", keep_alpha)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"{name}: the given bytes", max_pixels, keep_alpha)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _decode(io.BytesIO(data_uri_bytes(source, name)), f"{name}: the data URI", max_pixels, keep_alpha)
    if not isinstance(source, str | Path):
        raise ImageError(
            f"{name}: a {type(source).__name__} is no picture: "
            "give a path, the bytes of a file, a data URI or a PIL.Image"
        )
    with open_picture_file(source, name) as stream:
        return _decode(stream, f"{name}: {shortened(str(source))}", max_pixels, keep_alpha)


def cut_window(image: Image.Image, window: tuple[float, float, float, float] | None) -> Image.Image:
    """The part of a whole picture that a pass draws (``run.request.window``); all of it where that is None.

    Args:
        image: a picture that belongs to the whole, of any size: a control image, a mask.
        window: (left, top, right, bottom) as fractions. Edges are rounded to whole pixels of ``image``; at least
            one pixel is cut.
    """
    if window is None:
        return image
    left, right = _edges(window[0], window[2], image.width)
    top, bottom = _edges(window[1], window[3], image.height)
    return image.crop((left, top, right, bottom))


def _edges(low: float, high: float, size: int) -> tuple[int, int]:
    start = min(round(low * size), size - 1)
    return start, max(round(high * size), start + 1)


def image_sha256(image: Image.Image) -> str:
    """SHA-256, in hex, of a picture's mode, size and pixels; metadata does not count."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def image_to_tensor(
    image: Image.Image, height: int, width: int, *, device: str | torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Resize a picture (Lanczos, proportions not kept) to a tensor ``(1, 3, height, width)`` in [-1, 1].

    Bit-identical to ``VaeImageProcessor.preprocess`` of diffusers, then moved to the device and dtype.
    """
    import numpy as np
    import torch

    resized = image.convert("RGB").resize((width, height), resample=Image.Resampling.LANCZOS)
    values = np.array(resized).astype(np.float32) / 255.0
    tensor = 2.0 * torch.from_numpy(values[None].transpose(0, 3, 1, 2)) - 1.0
    return tensor.to(device=device, dtype=dtype)


def tensors_to_images(tensor: torch.Tensor) -> list[Image.Image]:
    """Turn decoded pictures ``(n, 3, height, width)``, nominally in [-1, 1], into n RGB pictures.

    Values outside are clamped. Bit-identical to ``VaeImageProcessor.postprocess`` of diffusers.

    Raises:
        SdcoreError: a picture holds NaN, which would come out as noise or black.
    """
    bad = tensor.isnan().flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise SdcoreError(
            f"the decoder returned NaN for picture {', '.join(map(str, bad))} of {len(tensor)}: in float16 "
            "some VAEs overflow. Load the model, or its VAE, with dtype float32 or bfloat16"
        )
    values = (tensor * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
    return [Image.fromarray(array) for array in (values * 255).round().astype("uint8")]


def _decode(stream: BinaryIO, what: str, max_pixels: int, keep_alpha: bool) -> Image.Image:
    try:
        image = open_header(stream)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{what} has too many pixels: {error} Scale it down") from error
    except BROKEN as error:
        raise ImageError(f"{what} is truncated or damaged ({error}): make it again") from error
    if image is None:
        stream.seek(0)
        start = stream.read(12)
        begins = f"it begins with {start!r}" if start else "it is empty"
        raise ImageError(f"{what} is not a picture that can be read: {begins}. Known: {', '.join(FORMATS)}")
    _check_size(image, what, max_pixels)
    return _to_rgb(image, what, keep_alpha)


def _check_size(image: Image.Image, what: str, max_pixels: int) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{what} is {width}x{height} pixels; each side needs at least {MIN_SIDE}")
    if width * height > max_pixels:
        raise ImageError(
            f"{what} is {width}x{height}, which is {width * height:,} pixels; the limit is {max_pixels:,}: "
            "scale it down, or raise max_pixels"
        )


def _to_rgb(source: Image.Image, what: str, keep_alpha: bool) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(source)
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            image = _to_8_bits(image, what)
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            if not keep_alpha:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode != "RGBA" or not keep_alpha:
            image = image.convert("RGB")
    except ImageError:
        raise
    except BROKEN as error:
        raise ImageError(f"{what} is truncated or damaged ({error}): make it again") from error
    image.info = {}
    return image


def _to_8_bits(image: Image.Image, what: str) -> Image.Image:
    import numpy as np

    values = np.asarray(image)
    most = 1.0 if image.mode == "F" else 65535.0
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= most):
        raise ImageError(
            f"{what} has values from {low} to {high} in mode {image.mode!r}, for which 0 to {most:g} "
            "is known: save it with 8 or 16 bits a channel"
        )
    return Image.fromarray(np.rint(values.astype(np.float32) * (255.0 / most)).astype(np.uint8))
