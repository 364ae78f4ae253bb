"""What the hook ``plan`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Problem:
    """A reason why the request cannot work. All problems of all plugins are reported together."""

    def __init__(self, message: str) -> None:
        self.message = message


class Change:
    """Request fields that must have other values for this run: ``Change(height=768, steps=30)``.

    ``previews=False`` forbids previews (a policy that pictures must not leave unseen).
    """

    def __init__(self, *, previews: bool = True, **fields: Any) -> None:
        self.previews = previews
        self.fields: Mapping[str, Any] = fields
