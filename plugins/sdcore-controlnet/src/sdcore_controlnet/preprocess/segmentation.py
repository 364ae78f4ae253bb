"""Segmentation: what is where, in the colours of ADE20K, through networks of transformers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcore import ImageError, ModelError

from .arrays import Pixels, factor_to, picture_of, pixels_of, resized
from .options import Segmentation
from .palette import ADE20K

NOTHING = -1


def coloured(labels: NDArray[np.int64]) -> Pixels:
    """Classes (height, width), 0 to 149, in ADE20K's colours (height, width, 3); others are black."""
    table = np.zeros((len(ADE20K) + 1, 3), np.uint8)
    table[:-1] = ADE20K
    return np.asarray(table[np.where((labels >= 0) & (labels < len(ADE20K)), labels, len(ADE20K))], np.uint8)


def labels_of_annotation(pixels: Pixels) -> NDArray[np.int64]:
    """Classes (height, width) of an annotation of ADE20K: a grey picture, 0 for nothing, else the class + 1.

    Raises:
        ImageError: the picture is not grey, or brighter than 150.
    """
    if (pixels != pixels[..., :1]).any():
        raise ImageError("source=labels takes a grey picture, whose values are classes; this one has colours")
    values = pixels[..., 0].astype(np.int64)
    if values.max() > len(ADE20K):
        raise ImageError(f"source=labels takes grey values from 0 to {len(ADE20K)}; this picture has {values.max()}")
    return values - 1


def estimated(pixels: Pixels, options: Segmentation) -> NDArray[np.int64]:
    """Classes (height, width) of a picture (height, width, 3).

    Raises:
        ModelError: no network is named, it cannot be loaded, or it knows other classes than ADE20K's.
    """
    import torch

    from .networks import load

    if options.model is None:
        raise ModelError(
            "segmentation needs a network: set `model` (--model) to a folder with its config.json and safetensors "
            "weights, or to a hub id such as nvidia/segformer-b0-finetuned-ade-512-512"
        )
    network = load(options.model, "AutoModelForSemanticSegmentation", "segmentation network", options.device)
    if network.config.num_labels != len(ADE20K):
        raise ModelError(
            f"{options.model}: knows {network.config.num_labels} classes; ControlNets know ADE20K's {len(ADE20K)}: "
            "use a network trained on that"
        )
    with torch.inference_mode():
        logits = network(pixels).logits[:1].float()
        large = torch.nn.functional.interpolate(logits, size=pixels.shape[:2], mode="bilinear", align_corners=False)
        return np.asarray(large.argmax(1)[0].cpu().numpy(), np.int64)


def run(image: Image.Image, options: Segmentation) -> Image.Image:
    """The preprocessor ``segmentation``."""
    pixels = pixels_of(image)
    if options.source == "labels":
        return picture_of(coloured(labels_of_annotation(pixels)))
    height, width = pixels.shape[:2]
    factor = factor_to(height, width, options.resolution)
    labels = estimated(resized(pixels, max(1, round(height * factor)), max(1, round(width * factor))), options)
    # Colours between two classes would be those of a third.
    return picture_of(
        np.asarray(cv2.resize(coloured(labels), (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    )
