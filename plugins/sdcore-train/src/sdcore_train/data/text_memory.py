"""Encoded captions, kept while the text encoders are not trained."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .shards import Shards

if TYPE_CHECKING:
    from torch import Tensor

    Row = dict[str, Tensor]

#: Captions of a file, and bytes that wait to be written at most.
ROWS = 256
WAITING = 64 << 20


class TextMemory:
    """Encodes each caption once.

    Captions are encoded ``together`` at a time; by default one by one, because in larger batches the last bits of
    an encoding depend on what stands beside it, and a training that was resumed would differ from one that was not.

    Args:
        encode: captions to tensors (n, ...) by name; the shape of a row must not depend on the other captions.
        folder: of the cache on disk; None keeps them in memory only.
        key: what encodings depend on besides the caption: the text encoders, their precision.
        limit_bytes: most bytes that are kept in memory; those that were not used for longest go first.
        together: captions for each call of ``encode``.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], dict[str, Tensor]],
        folder: Path | None,
        key: Mapping[str, str],
        limit_bytes: int,
        together: int = 1,
    ) -> None:
        self._encode = encode
        self._shards = None if folder is None else Shards(folder, key)
        self._limit = limit_bytes
        self._together = together
        self._bytes = 0
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._waiting: dict[str, Row] = {}

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """The encodings of captions, (n, ...) each, on the CPU.

        Raises:
            OutputError: the cache cannot be written.
        """
        import torch

        found = {caption: self._known(caption) for caption in dict.fromkeys(captions)}
        missing = [caption for caption, row in found.items() if row is None]
        for at in range(0, len(missing), self._together):
            some = missing[at : at + self._together]
            for caption, row in zip(some, self._encoded(some), strict=True):
                found[caption] = row
                if self._shards is not None:
                    self._waiting[_name(caption)] = row
        rows = [found[caption] or {} for caption in captions]
        for caption, row in zip(captions, rows, strict=True):
            self._keep(caption, row)
        if len(self._waiting) >= ROWS or sum(map(_size, self._waiting.values())) >= WAITING:
            self.flush()
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}

    def flush(self) -> None:
        """Write what waits to be written; OutputError if that is not possible."""
        import torch

        alike: dict[object, list[str]] = {}
        for name, row in self._waiting.items():
            alike.setdefault(tuple((key, t.shape, t.dtype) for key, t in sorted(row.items())), []).append(name)
        for names in alike.values():
            rows = [self._waiting[name] for name in names]
            assert self._shards is not None
            self._shards.write("text", names, {key: torch.stack([row[key] for row in rows]) for key in rows[0]})
        self._waiting.clear()

    def _encoded(self, captions: Sequence[str]) -> list[Row]:
        import torch

        with torch.no_grad():
            tensors = {name: tensor.detach().cpu() for name, tensor in self._encode(captions).items()}
        # Each row owns its memory, so that forgetting it frees it.
        return [{name: tensor[i].clone() for name, tensor in tensors.items()} for i in range(len(captions))]

    def _known(self, caption: str) -> Row | None:
        row = self._rows.get(caption)
        if row is not None or self._shards is None:
            return row
        name = _name(caption)
        return self._waiting.get(name) or (self._shards.read(name) if name in self._shards else None)

    def _keep(self, caption: str, row: Row) -> None:
        if caption not in self._rows:
            self._rows[caption] = row
            self._bytes += _size(row)
        self._rows.move_to_end(caption)
        while self._bytes > self._limit:
            _, old = self._rows.popitem(last=False)
            self._bytes -= _size(old)


def _name(caption: str) -> str:
    return hashlib.blake2b(caption.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _size(row: Row) -> int:
    return sum(tensor.nbytes for tensor in row.values())
