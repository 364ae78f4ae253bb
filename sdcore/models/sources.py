"""Where the weights of a plugin come from: a file, a folder, or the hub."""

from __future__ import annotations

import re
from pathlib import Path

from sdcore.errors import ModelError

from . import hub
from .checkpoint import is_pickle


def find_source(source: str, what: str = "weights") -> Path:
    """The folder or the weight file that a user named in a plugin's options.

    Args:
        source: a path, a hub id "owner/name" of a network with its configuration, or "owner/name/FILE.safetensors".
        what: how messages name it, such as "ControlNet".

    Raises:
        ModelError: there is no such file or folder, and it is no hub id, or the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and (path.suffix.lower() == ".safetensors" or is_pickle(path))):
        return path
    if path.exists():
        raise ModelError(f"{source}: as {what} a folder or a .safetensors file is needed; this is neither")
    if hub.is_hub_id(source):
        return hub.fetch_component(source)
    inside = re.fullmatch(r"([\w.-]+/[\w.-]+)/(.+\.safetensors)", source)
    if inside is not None and hub.is_hub_id(inside[1]) and not Path(inside[1]).exists():
        return hub.fetch_file(inside[1], inside[2])
    raise ModelError(f"{source}: there is no such folder or file ({what}); check the path")
