"""What happens to pictures: attacks as functions from picture to picture. The same seed gives the same picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Attack = Callable[[Image.Image, int], Image.Image]
"""A picture (RGB) and a seed, to the picture (RGB) after the attack."""


def coded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    """Saved as JPEG or WebP and read again."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    buffer.seek(0)
    with Image.open(buffer) as again:
        return again.convert("RGB")


def jpeg(quality: int) -> Attack:
    """Saved as JPEG."""
    return lambda image, seed: coded(image, "JPEG", quality)


def resize(factor: float) -> Attack:
    """Made smaller or larger, and left so."""

    def attack(image: Image.Image, seed: int) -> Image.Image:
        how = Image.Resampling.BILINEAR if factor < 1 else Image.Resampling.BICUBIC
        return image.resize((max(round(image.width * factor), 1), max(round(image.height * factor), 1)), how)

    return attack


def resized_back(factor: float) -> Attack:
    """Made smaller, and as large as before again: for detectors that know the size, or have blocks of a fixed one."""

    def attack(image: Image.Image, seed: int) -> Image.Image:
        return resize(factor)(image, seed).resize(image.size, Image.Resampling.BICUBIC)

    return attack


def crop(area: float, rescale: bool = False) -> Attack:
    """The middle, ``area`` of the picture; enlarged to its size with ``rescale``."""

    def attack(image: Image.Image, seed: int) -> Image.Image:
        side = area**0.5
        left, top = round(image.width * (1 - side) / 2), round(image.height * (1 - side) / 2)
        cut = image.crop((left, top, image.width - left, image.height - top))
        return cut.resize(image.size, Image.Resampling.BICUBIC) if rescale else cut

    return attack


def rotate(degrees: float) -> Attack:
    """Turned, the corners black."""
    return lambda image, seed: image.rotate(degrees, Image.Resampling.BICUBIC)


def blur(sigma: float) -> Attack:
    """Gaussian blur."""
    return lambda image, seed: image.filter(ImageFilter.GaussianBlur(sigma))


def noise(sigma: float) -> Attack:
    """Normal noise on every channel."""

    def attack(image: Image.Image, seed: int) -> Image.Image:
        drawn = np.random.default_rng(seed).normal(0, sigma, (image.height, image.width, 3))
        return Image.fromarray(np.clip(np.rint(np.asarray(image) + drawn), 0, 255).astype(np.uint8))

    return attack


def gamma(exponent: float) -> Attack:
    """Gamma."""
    table = [round(255 * (value / 255) ** exponent) for value in range(256)] * 3
    return lambda image, seed: image.point(table)


def colour_shift(image: Image.Image, seed: int) -> Image.Image:
    """Warmer: red up, blue down, a little more saturated."""
    channels = image.split()
    moved = [c.point([min(max(round(v * f + o), 0), 255) for v in range(256)]) for c, f, o in zip(
        channels, (1.12, 1.0, 0.88), (6, 0, -6), strict=True
    )]  # fmt: skip
    return ImageEnhance.Color(Image.merge("RGB", moved)).enhance(1.2)


def screenshot(image: Image.Image, seed: int) -> Image.Image:
    """Shown at 0.9 of its size with another gamma, 12 pixels lost on each side, saved as JPEG 80, enlarged again."""
    shown = gamma(1.1)(resize(0.9)(image, seed), seed)
    edge = min(12, min(shown.size) // 8)
    cut = shown.crop((edge, edge, shown.width - edge, shown.height - edge))
    return coded(cut, "JPEG", 80).resize(image.size, Image.Resampling.BICUBIC)


def printed(image: Image.Image, seed: int) -> Image.Image:
    """Print and scan, roughly: dots spread, paper tints, the sheet lies askew, grain, JPEG."""
    shown = blur(0.8)(resize(1.5)(image, seed), seed)
    shown = ImageEnhance.Contrast(gamma(0.9)(shown, seed)).enhance(0.85)
    shown = shown.rotate(1.2, Image.Resampling.BICUBIC, fillcolor=(245, 242, 235))
    shown = noise(4)(shown.resize((round(image.width * 0.95), round(image.height * 0.95))), seed)
    return coded(shown, "JPEG", 75)


def denoised(image: Image.Image, seed: int) -> Image.Image:
    """Noise of 20, taken away again by a median and a blur: what redrawing does, weakly."""
    return noise(20)(image, seed).filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.GaussianBlur(0.7))


def non_local_means(image: Image.Image, seed: int) -> Image.Image:
    """Noise of 20 and non-local means; needs OpenCV.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    import cv2

    noisy = np.asarray(noise(20)(image, seed))
    return Image.fromarray(np.asarray(cv2.fastNlMeansDenoisingColored(noisy, None, 10, 10, 7, 21), np.uint8))


def _then(*attacks: Attack) -> Attack:
    def attack(image: Image.Image, seed: int) -> Image.Image:
        for one in attacks:
            image = one(image, seed)
        return image

    return attack


ATTACKS: Mapping[str, Attack] = {
    "none": lambda image, seed: image,
    "jpeg90": jpeg(90),
    "jpeg75": jpeg(75),
    "jpeg50": jpeg(50),
    "jpeg25": jpeg(25),
    "jpeg10": jpeg(10),
    "jpeg-twice": _then(jpeg(80), jpeg(60)),
    "webp80": lambda image, seed: coded(image, "WEBP", 80),
    "resize0.75": resize(0.75),
    "resize0.5": resize(0.5),
    "resize0.25": resize(0.25),
    "resize2": resize(2.0),
    "resize0.75+back": resized_back(0.75),
    "resize0.5+back": resized_back(0.5),
    "resize0.25+back": resized_back(0.25),
    "crop75": crop(0.75),
    "crop75+rescale": crop(0.75, True),
    "crop50": crop(0.5),
    "crop50+rescale": crop(0.5, True),
    "crop25": crop(0.25),
    "crop25+rescale": crop(0.25, True),
    "rotate5": rotate(5),
    "rotate10": rotate(10),
    "rotate30": rotate(30),
    "rotate90": rotate(90),
    "rotate2+jpeg50": _then(rotate(2), jpeg(50)),
    "hflip": lambda image, seed: ImageOps.mirror(image),
    "blur1": blur(1),
    "blur2": blur(2),
    "median5": lambda image, seed: image.filter(ImageFilter.MedianFilter(5)),
    "sharpen": lambda image, seed: image.filter(ImageFilter.UnsharpMask(2, 120, 2)),
    "noise5": noise(5),
    "noise15": noise(15),
    "noise25": noise(25),
    "denoised": denoised,
    "noise+nlm": non_local_means,
    "bright1.2": lambda image, seed: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast0.7": lambda image, seed: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image, seed: image.convert("L").convert("RGB"),
    "colour-shift": colour_shift,
    "screenshot": screenshot,
    "print": printed,
}
