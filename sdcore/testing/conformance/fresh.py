"""Import a plugin in a process of its own, and tell what that did. Run as ``python -m``, JSON in and JSON out.

In the process nothing is loaded but the light half of sdcore, so what a plugin drags in shows.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "scipy", "cv2", "onnxruntime", "sklearn", "skimage")
"""Each takes from a fifth of a second to several: nothing may import them before they are used."""
TIMEOUT = 120


def in_fresh_process(
    module: str, qualname: str, file: str | None, pickles: list[bytes], *, after_torch: bool = False
) -> Mapping[str, Any]:
    """Import a class in a new process, construct it, start a host with it, and unpickle its options.

    Args:
        module: that the class is in.
        qualname: of the class.
        file: where the module is, if it cannot be imported by name.
        pickles: pickled options; what they come back as is compared by their JSON.
        after_torch: import torch first, so that changes to it show.

    Returns:
        ``error`` (or None), ``heavy`` (modules), ``changes`` (texts), ``threads`` (started), ``options`` (their JSON).
    """
    order = {
        "module": module,
        "qualname": qualname,
        "file": file,
        "pickles": [base64.b64encode(data).decode() for data in pickles],
        "after_torch": after_torch,
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"the process ended with {done.returncode}: {last}"}
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def load_class(module: str, qualname: str, file: str | None) -> Any:
    """A class by its module's name, or out of a file under that name."""
    if file is not None and module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, Path(file))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _carry_out(order: Mapping[str, Any]) -> dict[str, Any]:
    from sdcore.host import PluginHost
    from sdcore.schedulers import register_builtin
    from sdcore.testing.conformance.watching import changed, class_attributes, process_settings, restore_classes

    shared: list[Any] = []
    if order["after_torch"]:
        import torch

        shared = [torch, torch.Tensor, torch.nn.Module, torch.nn.functional]
    attributes = class_attributes(shared)
    before, loaded, threads = process_settings(), set(sys.modules), threading.active_count()
    factory = load_class(order["module"], order["qualname"], order["file"])
    if isinstance(factory, type):  # else a function that names the folder of a model
        PluginHost([factory], before=register_builtin)
    after = process_settings()
    patched = restore_classes(attributes, shared)
    told: dict[str, Any] = {
        "error": None,
        "heavy": [name for name in HEAVY if name in sys.modules and name not in loaded],
        "changes": [name for name in changed(before, after) if name in before or not name.startswith("torch.")]
        + patched,
        "threads": threading.active_count() - threads,
        "options": [],
    }
    for data in order["pickles"]:
        told["options"].append(pickle.loads(base64.b64decode(data)).model_dump_json(fallback=str))
    return told


if __name__ == "__main__":
    try:
        answer = _carry_out(json.loads(sys.stdin.read()))
    except Exception as error:  # noqa: BLE001 - told to whoever started this process
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(answer))
