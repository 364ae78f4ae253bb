"""Control pictures and masks: fitted to the whole picture, cut to the part that is drawn, as tensors.

Nothing here knows of runs; sizes are (width, height) as in Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

Size = tuple[int, int]
TOLERANCE = 0.015
"""By how much the aspect of a control picture may differ from that of the picture."""


def read_picture(source: Any, name: str) -> Image:
    """A picture as RGB; a mask becomes grey later.

    Raises:
        ImageError: it cannot be read.
    """
    from sdcore.images import load_image

    return load_image(source, name=name)


def aspect_problem(size: Size, canvas: Size, resize: str | None, name: str) -> str | None:
    """What is wrong with a picture of another aspect than the canvas; None if it may be used."""
    if resize is not None:
        return None
    ratio = (size[0] / size[1]) / (canvas[0] / canvas[1])
    if abs(ratio - 1) <= TOLERANCE:
        return None
    return (
        f"{name} is {size[0]}x{size[1]}, the picture {canvas[0]}x{canvas[1]}, of another aspect; say how it is to be "
        "fitted: resize='stretch' (proportions change), 'crop' (its edges are cut off) or 'pad' (black is put around)"
    )


def fit(image: Image, canvas: Size, resize: str | None) -> Image:
    """A picture with the aspect of the canvas, at its own resolution: cut or padded about its middle, or as it is."""
    from PIL import Image as pillow

    if resize not in ("crop", "pad"):
        return image
    width, height = image.size
    by_height = height * canvas[0] / canvas[1]  # as wide as the canvas asks for at this height
    if (by_height < width) == (resize == "crop"):
        target = max(1, round(by_height)), height
    else:
        target = width, max(1, round(width * canvas[1] / canvas[0]))
    left, top = (width - target[0]) // 2, (height - target[1]) // 2
    if resize == "crop":
        return image.crop((left, top, left + target[0], top + target[1]))
    padded = pillow.new(image.mode, target)
    padded.paste(image, (-left, -top))
    return padded


def working_size(image: Size, pass_size: Size, window: tuple[float, float, float, float] | None) -> Size:
    """The size at which a whole control picture is preprocessed: that of the pass, over its window.

    Small windows do not make it larger than the picture itself and the pass are.
    """
    left, top, right, bottom = window or (0.0, 0.0, 1.0, 1.0)
    wide, high = pass_size[0] / (right - left), pass_size[1] / (bottom - top)
    most = max(*image, *pass_size)
    scale = min(1.0, most / max(wide, high))
    return max(8, round(wide * scale)), max(8, round(high * scale))


def to_tensor(image: Image, size: Size, channels: int = 3) -> Tensor:
    """A picture, resized (Lanczos), as a tensor (1, channels, height, width) in [0, 1], in float32.

    Bit-identical to ``prepare_control_image`` and ``_preprocess_adapter_image`` of diffusers' pipelines. As there,
    channels come last in memory, which decides how the first convolution rounds.
    """
    import numpy as np
    import torch
    from PIL import Image as pillow

    resized = image.resize(size, resample=pillow.Resampling.LANCZOS)
    values = np.array(resized.convert("L" if channels == 1 else "RGB")).astype(np.float32) / 255.0
    if channels == 1:
        values = values[..., None]
    return torch.from_numpy(np.stack([values]).transpose(0, 3, 1, 2))


def mask_to_tensor(mask: Image, size: Size) -> Tensor:
    """A mask as a tensor (1, 1, height, width) from 0 to 1, in float32."""
    from PIL import Image as pillow

    grey = mask.convert("L").resize(size, resample=pillow.Resampling.BILINEAR)
    return to_tensor(grey, size, channels=1)


def inpaint_condition(image: Tensor, mask: Tensor) -> Tensor:
    """The control picture of inpainting ControlNets: the picture, and -1 where the mask is above one half.

    ``make_inpaint_condition`` of lllyasviel's control_v11p_sd15_inpaint.
    """
    return image.masked_fill(mask > 0.5, -1.0)


def placed(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor where the run is."""
    return tensor.to(device=device, dtype=dtype)
