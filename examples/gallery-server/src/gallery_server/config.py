"""What the operator decides: the model, the library, and a policy for every group of API keys. Written in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE = "gallery.toml"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What one API key may ask for."""

    requests_per_minute: int = Field(default=60, ge=1, description="requests that change something")
    queued_jobs: int = Field(default=8, ge=1, description="jobs that wait or run")
    streams: int = Field(default=8, ge=1, description="event streams that are open at once")
    steps: int = Field(default=50, ge=1)
    pixels: int = Field(default=1024 * 1024, ge=64, description="of one picture")
    count: int = Field(default=4, ge=1, description="pictures of one job")
    upload_bytes: int = Field(default=16 * 2**20, ge=1, description="of one upload")
    stored_bytes: int = Field(default=256 * 2**20, ge=1, description="of all uploads")


class AlwaysUse(_Part):
    """A plugin that is in every run of the policy."""

    plugin: str
    options: dict[str, Any] = {}


class Policy(_Part):
    """What a group of keys may do.

    Attributes:
        plugins: names of the plugins that a request may use. Nothing else is loaded, but what is in ``always``.
        always: plugins that are in every run, and that no request can touch.
        forbidden_options: names of options that no request may set, of whatever plugin.
        limits: see :class:`Limits`.
    """

    plugins: tuple[str, ...] = ()
    always: tuple[AlwaysUse, ...] = ()
    forbidden_options: tuple[str, ...] = ("allow_pickle",)
    limits: Limits = Field(default_factory=lambda: Limits.model_validate({}))


class Config(_Part):
    """The whole file.

    Attributes:
        model: what ``Engine.load`` takes; empty for the installed model.
        library: name to a file, a folder or an installed net: what requests may name in options that take a file.
        policies: name to policy; an API key belongs to one.
    """

    model: str = ""
    library: dict[str, str] = {}
    policies: dict[str, Policy] = Field(min_length=1)


class ConfigError(ValueError):
    """The file cannot be used; the message says where and why."""


def read_config(path: Path) -> Config:
    """Read a file.

    Raises:
        ConfigError: it is missing, no TOML, or has a field that is wrong.
    """
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}"[:500]) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


ALWAYS = {
    "safety": '{ plugin = "safety" }',
    # Previews have no mark. They are small, and whoever sees them is who asked for the picture.
    "watermark": '{ plugin = "watermark", options = { key = "KEY", previews = "allow" } }',
}
REQUESTED = ("lora", "controlnet", "inpaint", "outpaint", "template")


def first_config(installed: Iterable[str], key: Path, library: Mapping[str, str]) -> str:
    """The file of a new data folder: what is installed now, written out, so that nothing drops out unnoticed later.

    Args:
        installed: names of the plugins that can be used here.
        key: the key file of the watermark, for ``always``.
        library: name to file.
    """
    here = set(installed)
    always = ",\n    ".join(line.replace("KEY", key.as_posix()) for name, line in ALWAYS.items() if name in here)
    plugins = ", ".join(f'"{name}"' for name in REQUESTED if name in here)
    known = "\n".join(f'"{name}" = "{Path(path).as_posix()}"' for name, path in library.items())
    return f"""\
# What this server does. Restart it after a change. All fields: gallery_server/config.py.

# model = "a folder, a .safetensors file, a hub id"  # without it, the installed model

[library]  # what requests may name where an option takes a file; anything else they have to upload
{known}

[policies.standard]
plugins = [{plugins}]
always = [  # in every run, and out of the reach of requests
    {always}
]

[policies.standard.limits]
requests_per_minute = 60
queued_jobs = 8
steps = 50
pixels = 1048576
count = 4
upload_bytes = 16777216
"""
