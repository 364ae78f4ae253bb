"""Running a network from an ONNX file."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from sdcore import RequestError


@functools.lru_cache(maxsize=8)
def session(path: str, extra: str) -> Any:
    """A session of onnxruntime on the CPU, one thread; kept.

    Raises:
        RequestError: onnxruntime is not installed, or the file is no network.
    """
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        raise RequestError(
            f"this scheme runs on onnxruntime, which is not installed: pip install 'sdcore-watermark[{extra}]'"
        ) from None
    if not Path(path).is_file():
        raise RequestError(f"there is no file {path}: name the ONNX file of the network")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base
        raise RequestError(f"{path} is no network that onnxruntime can run: {error}") from error


def folder_of(package: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None
