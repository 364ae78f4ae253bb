"""The bundled networks, run with LiteRT."""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdcore import ModelError
from sdcore_controlnet.preprocess.arrays import Plane

FOLDER = Path(__file__).parent / "models"
_lock = threading.Lock()


def infer(network: str | Path, cut: Plane) -> dict[str, NDArray[np.float32]]:
    """Outputs of a network by their names, without the batch axis.

    Args:
        network: the name of a bundled one, or a path.
        cut: (side, side, 3), in the range that the network knows.

    Raises:
        ModelError: LiteRT is not installed; the file is missing, damaged, or of a network with another input.
    """
    file = network if isinstance(network, Path) else FOLDER / f"{network}.tflite"
    with _lock:  # an interpreter holds the tensors of one call
        interpreter = _interpreter(file)
        wanted = interpreter.get_input_details()[0]
        if tuple(wanted["shape"]) != (1, *cut.shape):
            raise ModelError(
                f"{file}: takes {tuple(wanted['shape'])}, where (1, {cut.shape[0]}, {cut.shape[1]}, 3) is needed"
            )
        interpreter.set_tensor(wanted["index"], cut[None].astype(np.float32))
        interpreter.invoke()
        return {
            entry["name"]: np.array(interpreter.get_tensor(entry["index"])[0], np.float32)
            for entry in interpreter.get_output_details()
        }


@lru_cache(maxsize=8)
def _interpreter(file: Path) -> Any:
    if find_spec("ai_edge_litert") is None:
        raise ModelError(
            "the preprocessor 'pose' needs LiteRT to run its networks: pip install 'sdcore-controlnet[pose]' "
            "(or: pip install ai-edge-litert)"
        )
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped, unused-ignore]

    if not file.is_file():
        hint = "install sdcore-controlnet again" if file.parent == FOLDER else "check the path"
        raise ModelError(f"there is no network {file}: {hint}")
    # One thread and no delegate: the same sums in the same order, and nothing printed to the terminal.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = Interpreter(str(file), num_threads=1, experimental_op_resolver_type=plain)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{file} is damaged or no TFLite network: {error}") from error
    return interpreter
