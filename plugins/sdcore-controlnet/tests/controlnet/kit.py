from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sdcore_controlnet import ControlNetPlugin

from sdcore import Engine
from sdcore.testing.parity import Recorder
from sdcore.testing.tiny import tiny_folder

torch.set_num_threads(1)
SIZE = 32


@functools.cache
def engine_for(family: str, prediction: str = "epsilon", in_channels: int = 4) -> Engine:
    folder = tiny_folder(family, prediction_type=prediction, in_channels=in_channels)
    plugins: list[Any] = [ControlNetPlugin, Recorder]
    try:
        from sdcore_inpaint import InpaintPlugin

        plugins.append(InpaintPlugin)
    except ImportError:
        pass
    return Engine.load(folder, plugins=plugins, device="cpu", dtype="float32")


@functools.cache
def picture(seed: int = 0, width: int = SIZE, height: int = SIZE, grain: int = 4) -> Image.Image:
    """A picture with edges and soft colours."""
    values = np.random.default_rng(seed).integers(0, 256, (height // grain, width // grain, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


@functools.cache
def pipe_for(name: str, folder: Path, extra: tuple[tuple[str, Any], ...] = ()) -> Any:
    """A pipeline of diffusers by class name, on a tiny folder."""
    import diffusers

    kind = getattr(diffusers, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        given = {key: list(value) if isinstance(value, tuple) else value for key, value in extra}
        index = {"safety_checker": None, "feature_extractor": None} if "XL" not in name else {}
        pipe = kind.from_pretrained(folder, **index, **given)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@functools.cache
def control_module(path: Path) -> Any:
    import diffusers

    return diffusers.ControlNetModel.from_pretrained(path)


@functools.cache
def adapter_module(path: Path) -> Any:
    import diffusers

    return diffusers.T2IAdapter.from_pretrained(path)
