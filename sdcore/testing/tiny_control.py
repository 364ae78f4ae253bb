"""Small random ControlNets and T2I-Adapters that fit the models of `sdcore.testing.tiny`.

Their output convolutions, which training starts at zero, are not zero here: the effect on a picture can be seen,
and the loop stays stable. The codec of the tiny models has a factor of 4, and so has the condition embedding.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .tiny import FAMILIES, tiny_folder

FACTOR = 4
"""Pixels to a latent of the tiny models."""
STRENGTH = 0.5
"""Size of what a net adds, against the size of what it is added to."""


def tiny_controlnet(family: str = "sd1", seed: int = 0, **settings: Any) -> Path:
    """A folder with a small random ControlNet of a family, made once per process and removed at its end.

    Args:
        family: "sd1", "sd2", "sdxl" or "refiner".
        seed: of the weights. The global generators are left alone.
        settings: configuration of the `ControlNetModel` that shall differ, such as
            ``global_pool_conditions=True`` or ``controlnet_conditioning_channel_order="bgr"``.

    Raises:
        ValueError: the family is not known.
    """
    return _made("controlnet", _known(family), seed, tuple(sorted(settings.items())))


def tiny_t2i_adapter(family: str = "sd1", seed: int = 0, **settings: Any) -> Path:
    """The same for a T2I-Adapter: ``full_adapter`` (SD1, SD2) or ``full_adapter_xl`` (SDXL).

    Args:
        family: "sd1", "sd2" or "sdxl".
        seed: of the weights. The global generators are left alone.
        settings: configuration of the `T2IAdapter` that shall differ, such as ``in_channels=1``.

    Raises:
        ValueError: the family is not known.
    """
    return _made("t2i-adapter", _known(family), seed, tuple(sorted(settings.items())))


def _known(family: str) -> str:
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; expected one of {', '.join(FAMILIES)}")
    return family


@functools.cache
def _made(kind: str, family: str, seed: int, settings: tuple[tuple[str, Any], ...]) -> Path:
    import torch

    top = Path(tempfile.mkdtemp(prefix=f"sdcore-tiny-{kind}-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = (_controlnet if kind == "controlnet" else _t2i_adapter)(family, dict(settings))
    module.save_pretrained(top / kind)
    return top / kind


def _controlnet(family: str, settings: dict[str, Any]) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from .tiny import _spread

    unet = UNet2DConditionModel.from_pretrained(tiny_folder(family), subfolder="unet")
    like: Any = ControlNetModel.from_unet(
        unet, conditioning_embedding_out_channels=(16, 32, 64), load_weights_from_unet=False
    )
    config = {key: value for key, value in like.config.items() if not key.startswith("_")}
    net: Any = ControlNetModel.from_config(config | settings)
    _spread(net)
    _spread(net.controlnet_cond_embedding, gain=1.5)  # by its own names, it is no embedding of tokens
    _weaken([*net.controlnet_down_blocks, net.controlnet_mid_block])
    return net


def _t2i_adapter(family: str, settings: dict[str, Any]) -> Any:
    from diffusers.models.adapter import T2IAdapter

    from .tiny import _spread

    xl = family in ("sdxl", "refiner")
    config: dict[str, Any] = {
        "adapter_type": "full_adapter_xl" if xl else "full_adapter",
        "channels": {"sd1": [32, 64, 64], "sd2": [32, 64, 128]}.get(family, [32, 64, 128, 128]),
        "downscale_factor": FACTOR * (2 if xl else 1),  # SDXL's first features meet the U-Net a level further down
        "num_res_blocks": 1,
    }
    adapter: Any = T2IAdapter(**config | settings)
    _spread(adapter)
    _weaken([adapter.adapter.conv_in, *(block.in_conv for block in adapter.adapter.body if block.in_conv is not None)])
    return adapter


def _weaken(convolutions: list[Any]) -> None:
    import torch

    with torch.no_grad():
        for convolution in convolutions:
            convolution.weight.mul_(STRENGTH)
