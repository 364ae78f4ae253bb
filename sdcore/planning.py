"""What the hook ``plan`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Problem:
    """A reason why the request cannot work. All problems of all plugins are reported together."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"Problem({self.message!r})"


class Change:
    """Request fields that must have other values for this run: ``Change(height=768, steps=30)``.

    Which pictures are made stays: ``seed``, ``seeds``, ``count`` and ``use`` cannot be changed. ``previews=False``
    forbids previews (a policy that pictures must not leave unseen).
    """

    def __init__(self, *, previews: bool = True, **fields: Any) -> None:
        self.previews = previews
        self.fields: Mapping[str, Any] = fields

    def __repr__(self) -> str:
        shown = {**self.fields} if self.previews else {"previews": False, **self.fields}
        return f"Change({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
