"""Random renderings of icons for training the classifier: pure tensor functions, random numbers from a generator."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    """(count,) numbers between low and high."""
    return torch.rand(count, generator=generator) * (high - low) + low


def transform(icons: Tensor, share: Tensor, angle: Tensor, shift: Tensor, side: int) -> Tensor:
    """Place square icons in square pictures.

    Args:
        icons: (count, channels, n, n); premultiplied when they are RGBA.
        share: (count,) side of the icon as a share of the picture's.
        angle: (count,) degrees.
        shift: (count, 2) right and down, as a share of the picture's side.
        side: of the pictures, in pixels.

    Returns:
        (count, channels, side, side); outside of the icons 0.
    """
    radians = angle * (torch.pi / 180)
    cos, sin = torch.cos(radians) / share, torch.sin(radians) / share
    right, down = -2 * shift[:, 0], -2 * shift[:, 1]
    rows = [
        torch.stack([cos, sin, cos * right + sin * down], 1),
        torch.stack([-sin, cos, cos * down - sin * right], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(icons), icons.shape[1], side, side], align_corners=False)
    return F.grid_sample(icons, grid, padding_mode="zeros", align_corners=False)


def on_ground(placed: Tensor, ground: Tensor, ink: Tensor | None = None) -> Tensor:
    """Premultiplied RGBA (count, 4, h, w) over plain colours (count, 3); RGB.

    ``ink``, (count,), replaces the colour of an icon by one gray where it is not NaN: line art.
    """
    alpha = placed[:, 3:]
    colour = placed[:, :3]
    if ink is not None:
        wanted = ink[:, None, None, None]
        colour = torch.where(wanted.isnan(), colour, wanted.nan_to_num() * alpha)
    return colour + (1 - alpha) * ground[:, :, None, None]


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each picture by its own sigma in pixels, up to about 1.6; (count, c, h, w)."""
    count, channels, _, _ = pictures.shape
    offsets = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma.clamp(min=0.05)[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = pictures.reshape(1, count * channels, *pictures.shape[2:])
    flat = F.conv2d(F.pad(flat, (3, 3, 0, 0), mode="replicate"), kernel[:, None, None, :], groups=len(kernel))
    flat = F.conv2d(F.pad(flat, (0, 0, 3, 3), mode="replicate"), kernel[:, None, :, None], groups=len(kernel))
    return flat.reshape(pictures.shape)


def jpeg(picture: Tensor, quality: int) -> Tensor:
    """One picture (3, h, w) in 0..1 as JPEG leaves it."""
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    stream.seek(0)
    with Image.open(stream) as read:
        content = bytearray(read.convert("RGB").tobytes())
    return torch.frombuffer(content, dtype=torch.uint8).reshape(pixels.shape).permute(2, 0, 1).float() / 255


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Small changes of colour, blur, a coarser grid, noise and JPEG, each on some of the pictures.

    They stand for what a small codec does to a drawing. (count, 3, h, w) in 0..1, and so is the result.
    """
    count = len(pictures)
    gain = 1 + (torch.rand(count, 3, 1, 1, generator=generator) - 0.5) * 0.12
    offset = (torch.rand(count, 1, 1, 1, generator=generator) - 0.5) * 0.1
    pictures = pictures * gain + offset
    sigma = uniform(generator, count, -1.0, 1.3).clamp(min=0)
    chosen = sigma > 0
    if chosen.any():
        pictures = pictures.clone()
        pictures[chosen] = blur(pictures[chosen], sigma[chosen])
    coarse = torch.rand(count, generator=generator) < 0.15
    if coarse.any():
        small = F.interpolate(pictures[coarse], scale_factor=0.5, mode="area")
        pictures[coarse] = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    level = uniform(generator, count, -0.04, 0.05).clamp(min=0)[:, None, None, None]
    pictures = pictures + torch.randn(pictures.shape, generator=generator) * level
    for index in torch.nonzero(torch.rand(count, generator=generator) < 0.12).flatten().tolist():
        quality = int(torch.randint(35, 90, (1,), generator=generator))
        pictures[index] = jpeg(pictures[index], quality)
    return pictures.clamp(0, 1)
