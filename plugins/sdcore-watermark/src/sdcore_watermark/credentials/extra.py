"""The packages of the extra ``c2pa``, imported when they are needed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from sdcore import RequestError

ENVIRONMENT = "env:"
MAX_PEM = 1024 * 1024


def needed(module: str) -> Any:
    """A module of the extra.

    Raises:
        RequestError: it is not installed; says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"content credentials need the extra c2pa ({error}): pip install 'sdcore-watermark[c2pa]'"
        ) from error


def read_pem(value: str, what: str) -> str:
    """PEM text from a file, or from the variable that ``env:NAME`` names (its text, or the file that it names).

    Raises:
        RequestError: there is no such file or variable, or it holds no PEM.
    """
    if value.startswith(ENVIRONMENT):
        name = value.removeprefix(ENVIRONMENT)
        found = os.environ.get(name)
        if not found:
            raise RequestError(f"{what}: the environment variable {name} is not set")
        if found.lstrip().startswith("-----BEGIN"):
            return found
        return read_pem(found, what) if not found.startswith(ENVIRONMENT) else _no(f"{what}: {name} names a variable")
    path = Path(value).expanduser()
    try:
        if not path.is_file():
            raise RequestError(f"{what}: there is no file {value}: `sdcore credentials init` makes a chain to try with")
        text = path.read_bytes()[: MAX_PEM + 1].decode("ascii", "replace")
    except OSError as error:
        raise RequestError(f"{what}: cannot read {value}: {error.strerror}") from error
    if "-----BEGIN" not in text or len(text) > MAX_PEM:
        _no(f"{what}: {value} is no PEM file")
    return text


def _no(text: str) -> str:
    raise RequestError(text)
