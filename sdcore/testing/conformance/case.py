"""Case: options to check a plugin with, and what they need of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Case:
    """One way to use a plugin.

    Attributes:
        options: as in JSON; files by their paths, which lie in ``setting.folder``.
        name: for reports.
        neutral: options that differ so that the plugin changes nothing (``{"weight": 0}``), or None if there are none.
        request: fields of the request that it needs, such as ``{"image": setting.picture()}``.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    neutral: Mapping[str, Any] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            self.name or ", ".join(f"{key}={str(value)[-24:]}" for key, value in self.options.items()) or "no options"
        )
