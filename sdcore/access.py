"""Access: what a plugin says that it touches. A statement for people who vet plugins, and no sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

FileUse = Literal["read", "write"]
FILE_USES: tuple[str, ...] = get_args(FileUse)


@dataclass(frozen=True)
class Access:
    """What a plugin touches beside the values that its stages are given.

    Nothing enforces it: a plugin is code in the process of whoever runs it, and may do what that process may do.
    ``sdcore plugins`` shows it, and a review compares it with the code.

    Attributes:
        network: it may open a connection, itself or through a library that it calls.
        files: ``"read"`` and ``"write"`` of files that a user names; what the package itself brings does not count.
        weights: formats of the weights that it reads or writes: ``"safetensors"``, ``"pickle"``, ``"onnx"``.
        when: a phrase for people, where it depends: ``"network: only where an option is a hub id"``.

    Raises:
        ValueError: ``files`` holds something else than "read" and "write".
        TypeError: ``files`` or ``weights`` is a text instead of a tuple of texts.
    """

    network: bool = False
    files: tuple[FileUse, ...] = ()
    weights: tuple[str, ...] = ()
    when: str = ""

    def __post_init__(self) -> None:
        for name, value in (("files", self.files), ("weights", self.weights)):
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"Access.{name} is {value!r}; write it as a tuple of texts: ({value!r},)")
        wrong = [use for use in self.files if use not in FILE_USES]
        if wrong:
            raise ValueError(f"Access.files holds {wrong[0]!r}; it may hold {' and '.join(FILE_USES)}")

    def __str__(self) -> str:
        files = [f"{' and '.join(f'{use}s' for use in self.files)} files"] if self.files else []
        parts = (["network"] if self.network else []) + files
        return ", ".join(parts) or "nothing"
