"""Big files and folders, written beside their place and given their name when they are whole."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore import OutputError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def beside(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to, which becomes ``target`` if nothing fails. What was written is removed if something does.

    Args:
        target: a file or a folder.
        overwrite: replace a file that is there. A folder is never replaced.

    Raises:
        OutputError: the name is taken, or cannot be written.
    """
    path = Path(target).expanduser()
    _check(path, overwrite)
    temporary = path.parent / f".sdcore-{secrets.token_hex(8)}.tmp{path.suffix}"
    try:
        yield temporary
        _check(path, overwrite)
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def check_free(target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out before any work whether the name can be written.

    Raises:
        OutputError: it cannot, saying why.
    """
    _check(Path(target).expanduser(), overwrite)


def _check(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent}: make it, or choose another name")
    if path.is_dir():
        raise OutputError(f"{path} is a folder that exists already: choose another name, or remove it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: choose another name, or pass overwrite=True (--overwrite)")


def write_weights(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with the rights of new files here; the library makes it readable to its owner only.

    The same weights and metadata give the same bytes: the library has metadata in a random order.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.touch()
    rights = path.stat().st_mode & 0o777
    try:
        save_file(dict(weights), path, metadata={"format": "pt", **metadata})
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    _sort_metadata(path)
    path.chmod(rights)


def _sort_metadata(path: Path) -> None:
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))
