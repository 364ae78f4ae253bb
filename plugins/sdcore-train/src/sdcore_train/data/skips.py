"""What is left out of a data set, and why."""

from __future__ import annotations

from .errors import DataError

#: So many names are given in a message about many pictures.
NAMED = 5


class Skips:
    """What is left out of a data set, and why. With ``strict`` the first is an error instead.

    Args:
        strict: whether it is.
        prefix: put before all keys.
        above: what this is a part of.
    """

    def __init__(self, strict: bool, prefix: str = "", above: Skips | None = None) -> None:
        self._strict = strict
        self._prefix = prefix
        self._found: dict[str, str] = {} if above is None else above._found

    def within(self, prefix: str) -> Skips:
        """The same, for keys that get a prefix."""
        return Skips(self._strict, prefix, self)

    def key(self, name: str) -> str:
        """The key of a picture: what its source calls it, with the prefix."""
        return self._prefix + name

    def add(self, name: str, reason: str) -> bool:
        """Leave a picture out that cannot be read; whether that is new."""
        if self._strict:
            raise DataError(
                f"{self.key(name)}: {reason}. Repair or remove it; or leave such pictures out with "
                "pictures.broken = 'skip'"
            )
        return self.leave_out(name, reason)

    def leave_out(self, name: str, reason: str) -> bool:
        """The same for what is not broken, and so is never an error."""
        key = self.key(name)
        new = key not in self._found
        self._found.setdefault(key, reason)
        return new

    def __len__(self) -> int:
        return len(self._found)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(key, reason) of all."""
        return tuple(self._found.items())


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
