"""Files are written whole or not at all, and a name that is taken is never overwritten silently."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from .errors import OutputError
from .file_names import next_free_name, numbered

__all__ = [
    "check_writable",
    "make_folder",
    "next_free_name",
    "numbered",
    "sha256_file",
    "write_atomic",
]

_NO_LINKS = {
    errno.EPERM,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EXDEV,
    errno.EMLINK,
    errno.EINVAL,
}
_NO_FSYNC = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def write_atomic(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False) -> Path:
    """Write a file so that under its name there is either all of it or nothing, also after a crash.

    The bytes go to a temporary file beside it, reach the disk, and are then given the name in one step.
    Without ``overwrite`` that step fails if the name is taken, so of several processes that write one
    name exactly one succeeds. The folder must exist (see :func:`make_folder`). A symbolic link is followed
    when overwriting, so what it points to is replaced and not the link.

    Returns:
        The path written.

    Raises:
        OutputError: the name is taken, the folder is missing or not writable, the disk is full. Its ``errno``
            is that of the system's error. Nothing is left behind.
    """
    target = _checked(path, overwrite)
    temporary = _temporary(target)
    try:
        _write(temporary, data)
        if overwrite:
            os.replace(temporary, target)
        else:
            _claim(temporary, target)
    except OSError as error:
        raise _explained(error, target, len(data)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return target


def check_writable(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Find out before any work whether :func:`write_atomic` would be able to write this name.

    An empty temporary file is made in the folder and removed again, because permission bits alone do not
    tell of read-only disks.

    Raises:
        OutputError: as of :func:`write_atomic`.
    """
    target = _checked(path, overwrite)
    temporary = _temporary(target)
    try:
        _write(temporary, b"")
    except OSError as error:
        raise _explained(error, target, 0) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, that a user named as the place for output; it may exist.

    Raises:
        OutputError: it cannot be made, or the name is that of a file.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _failure(f"{path} is a file, where a folder is needed: choose another name", errno.EEXIST) from None
    except (OSError, ValueError) as error:
        raise _failure(f"cannot make the folder {path}: {error}", getattr(error, "errno", None)) from error
    return path


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex. Raises the ``OSError`` of opening or reading it."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(path: str | os.PathLike[str], overwrite: bool) -> Path:
    text = os.fspath(path)
    target = Path(text)
    try:
        if text.endswith(("/", os.sep)) or target.is_dir():
            raise _failure(f"{text} is a folder: name the file to write in it", errno.EISDIR)
        if overwrite and target.is_symlink():
            target = Path(os.path.realpath(target))
        if not target.parent.is_dir():
            raise _failure(f"there is no folder {target.parent}: make it, or choose another name", errno.ENOENT)
        os.lstat(target)
        if not overwrite:
            raise _taken(target)
        # Replacing a device such as /dev/null by a file would harm the whole system.
        if not target.is_file():
            raise _failure(f"{target} is not a regular file: choose another name", errno.EINVAL)
    except FileNotFoundError:
        pass
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise _failure(f"cannot write {text[:200]!r}: {error}"[:500], getattr(error, "errno", None)) from error
    return target


def _temporary(target: Path) -> Path:
    # Not derived from the target's name, which may already be as long as a name can be.
    return target.parent / f".sdcore-{secrets.token_hex(8)}.tmp"


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise
    finally:
        os.close(descriptor)


def _claim(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
    else:
        return
    # No hard links here: an empty file under the name keeps others out until it is replaced.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        os.replace(temporary, target)
    except BaseException:
        os.unlink(target)
        raise


def _explained(error: OSError, target: Path, size: int) -> OutputError:
    if error.errno == errno.EEXIST:
        return _taken(target)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = f", {shutil.disk_usage(target.parent).free:,} are free"
        except OSError:
            free = ""
        text = f"the disk is full: {target} needs {size:,} bytes{free}. Make room, or write to another disk"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text = f"the folder {target.parent} is not writable ({error.strerror}): use another, or change its rights"
    else:
        text = f"cannot write {target}: {error.strerror or error}"
    return _failure(text, error.errno)


def _taken(target: Path) -> OutputError:
    return _failure(f"{target} exists already: choose another name, or pass overwrite=True (--overwrite)", errno.EEXIST)


def _failure(text: str, number: int | None) -> OutputError:
    failure = OutputError(text)
    failure.errno = number
    return failure
