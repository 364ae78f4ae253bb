"""Registry: named things that plugins add to an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .errors import ConflictError, RequestError
from .plugin import nearest

KINDS = (
    "scheduler",
    "preprocessor",
    "asset_loader",
    "safety_check",
    "watermark_scheme",
    "image_format",
    "cli_command",
    "verifier",
    "credential_signer",
)
"""Kinds that are known to more than one plugin. Any other name may be used as a kind too."""


class Registry:
    """Names by kind. One per engine, filled by the hook ``register``, frozen afterwards."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, tuple[str, Any]]] = {}
        self._owner = "sdcore"
        self._frozen = False

    def add(self, kind: str, name: str, value: Any) -> None:
        """Add ``value`` under ``name``.

        Args:
            kind: one of :data:`KINDS`, or a kind of your own.
            name: unique within the kind.
            value: for ``"scheduler"`` a :class:`sdcore.schedulers.SchedulerSpec`; for ``"preprocessor"`` a
                :class:`sdcore.preprocessing.Preprocessor`; for ``"cli_command"`` a function that takes an
                ``argparse`` subparser and sets its ``func`` (:mod:`sdcore.cli.kit` has what commands need); for
                ``"verifier"`` a :class:`sdcore.verifying.Verifier`;
                otherwise what the kind's owner documents.

        Raises:
            ConflictError: the name is taken; both owners are named.
        """
        if self._frozen:
            raise ConflictError(f"the registry is closed: add {kind} {name!r} in the hook `register`")
        entries = self._entries.setdefault(kind, {})
        if name in entries:
            raise ConflictError(
                f"{kind} {name!r} is registered by {entries[name][0]!r} and again by {self._owner!r}; "
                "disable one of them with SDCORE_DISABLE"
            )
        entries[name] = (self._owner, value)

    def get(self, kind: str, name: str) -> Any:
        """The value registered under ``name``; RequestError with the nearest name if there is none."""
        try:
            return self._entries[kind][name][1]
        except KeyError:
            hint = nearest(name, self._entries.get(kind, {}))
            raise RequestError(f"there is no {kind} {name!r}.{hint}") from None

    def all(self, kind: str) -> Mapping[str, Any]:
        """Name to value, sorted by name."""
        return {name: value for name, (_, value) in sorted(self._entries.get(kind, {}).items())}

    def owners(self) -> Iterator[tuple[str, str, str]]:
        """(kind, name, plugin) of everything that is registered."""
        for kind, entries in sorted(self._entries.items()):
            for name, (owner, _) in sorted(entries.items()):
                yield kind, name, owner

    def _as(self, owner: str) -> Registry:
        self._owner = owner
        return self

    def _drop(self, owner: str) -> None:
        for entries in self._entries.values():
            for name in [name for name, (by, _) in entries.items() if by == owner]:
                del entries[name]

    def _freeze(self) -> None:
        self._frozen = True
