"""SHA-256 of weights, remembered on disk by a file's real path, size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.errors import ModelError

if TYPE_CHECKING:
    import torch

_lock = threading.Lock()


def of_files(files: Sequence[Path]) -> str:
    """The hash of one file, as sha256sum prints it; of several, the hash of their names and hashes.

    Raises:
        ModelError: a file cannot be read.
    """
    single = [of_file(path) for path in files]
    if len(single) == 1:
        return single[0]
    lines = sorted(f"{digest}  {path.name}\n" for digest, path in zip(single, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def of_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits, computed once for each version of it.

    Raises:
        ModelError: the file cannot be read.
    """
    real = path.resolve()
    try:
        seen = real.stat()
        key = f"{real}|{seen.st_size}|{seen.st_mtime_ns}"
        with _lock:
            known = _read_cache().get(key)
        if known is None:
            with real.open("rb") as stream:
                known = hashlib.file_digest(stream, "sha256").hexdigest()
            _remember(key, known)
        return known
    except OSError as error:
        raise ModelError(f"{path}: cannot be hashed ({error.strerror}); was it moved while in use?") from error


def of_module(module: torch.nn.Module) -> str:
    """The SHA-256 of a module's weights: name, type, shape and bytes of each, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def cache_file() -> Path:
    """Where hashes are remembered: "sdcore/hashes.json" in the user's cache folder."""
    top = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(top) / "sdcore" / "hashes.json"


def _read_cache() -> dict[str, str]:
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str) and len(value) == 64}


def _remember(key: str, digest: str) -> None:
    """Best effort: a cache that cannot be written costs time later, nothing else."""
    path = cache_file()
    with _lock, contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        written.write_text(json.dumps(_read_cache() | {key: digest}, indent=0), encoding="utf-8")
        os.replace(written, path)
