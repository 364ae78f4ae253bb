"""The cache of latents: what the VAE's encoder makes of each picture, encoded once."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdcore import OutputError
from sdcore_train.records import Record

from .buckets import Size
from .errors import DataError
from .pixels import to_pixels
from .shards import Shards
from .skips import some

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Encode = Callable[["Tensor"], "Tensor"]

#: Rows of a file. What an interruption costs is at most that many pictures.
ROWS = 512

#: Pixels that are encoded at once: one picture of 1024x1024, 64 of 128x128.
PIXELS = 1 << 20
MOST = 64

#: Pictures that are decoded at once.
THREADS = 8


class Wanted(NamedTuple):
    """Latents to be had: of the record with a number, as it is or mirrored."""

    record: int
    mirrored: bool
    key: str
    name: str
    size: Size


class LatentCache:
    """Moments of latents by the names of their rows, on disk or in memory.

    Args:
        key: what they depend on besides the picture: the VAE, its precision.
        folder: where files are kept; None is in memory.
    """

    def __init__(self, key: Mapping[str, str], folder: Path | None) -> None:
        self._shards = None if folder is None else Shards(folder, key)
        self._rows: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in (self._rows if self._shards is None else self._shards)

    def __len__(self) -> int:
        return len(self._rows if self._shards is None else self._shards)

    def get(self, name: str) -> Tensor | None:
        """(2 c, h, w) float32, or None."""
        if self._shards is None:
            found = self._rows.get(name)
        else:
            found = self._shards.read(name)["moments"] if name in self._shards else None
        return None if found is None else found.float()

    def add(self, size: Size, names: Sequence[str], moments: Tensor) -> None:
        """Keep moments (n, 2 c, h, w) of pictures of one size; OutputError if there is no room."""
        if self._shards is None:
            self._rows.update(zip(names, moments, strict=True))
        else:
            self._shards.write(f"{size[0]}x{size[1]}", names, {"moments": moments})

    def refresh(self) -> None:
        """Find what other processes have encoded."""
        if self._shards is not None:
            self._shards.refresh()

    def check_room(self, count: int, moments: Tensor) -> None:
        """OutputError if the disk has no room for ``count`` more rows of the kind of ``moments[0]``."""
        if self._shards is None:
            return
        place = next(p for p in (self._shards.folder, *self._shards.folder.absolute().parents) if p.exists())
        needed, free = count * moments[0].nbytes, shutil.disk_usage(place).free
        if needed > free:
            raise OutputError(
                f"the cache of latents needs {needed / 1e9:.1f} GB in {self._shards.folder}, and {free / 1e9:.1f} GB "
                "are free. Make room, give pictures.cache_folder on another disk, or set pictures.cache to 'off'"
            )


def row_name(record: Record, size: Size, mirrored: bool) -> str:
    """The name of a picture's latents: another if the file or the way it is cut changes."""
    parts = (record.stamp, record.size, size, "center", mirrored)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def fill(
    cache: LatentCache,
    wanted: Sequence[Wanted],
    read: Callable[[int], NDArray[Any]],
    encode: Encode,
    broken: Callable[[int, str], None],
    done: Callable[[int], None],
) -> None:
    """Encode what the cache lacks.

    Args:
        cache: where the moments are put.
        wanted: what must be there.
        read: gives a record's picture, uint8 (height, width, 3), by its index; OSError if it is broken.
        encode: pixels (n, 3, height, width) in [-1, 1] to moments (n, 2 c, h, w).
        broken: is told of pictures that cannot be read.
        done: is told how many more are dealt with.

    Raises:
        DataError: a latent is not finite, or not of the shape of moments.
        OutputError: the cache cannot be written.
    """
    by_size: dict[Size, list[Wanted]] = {}
    for one in wanted:
        by_size.setdefault(one.size, []).append(one)
    chunks = [rows[at : at + ROWS] for rows in by_size.values() for at in range(0, len(rows), ROWS)]
    checked: set[Size] = set()

    def try_to_read(index: int) -> NDArray[Any] | OSError:
        try:
            return read(index)
        except OSError as error:
            return error

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for chunk in chunks:
            check = None if chunk[0].size in checked else by_size
            _fill_chunk(cache, chunk, lambda indices: pool.map(try_to_read, indices), encode, broken, done, check)
            checked.add(chunk[0].size)


def _fill_chunk(
    cache: LatentCache,
    chunk: Sequence[Wanted],
    read_all: Callable[[Sequence[int]], Iterable[NDArray[Any] | OSError]],
    encode: Encode,
    broken: Callable[[int, str], None],
    done: Callable[[int], None],
    check: Mapping[Size, Sequence[Wanted]] | None,
) -> None:
    import torch

    size = chunk[0].size
    together = max(1, min(MOST, PIXELS // (size[0] * size[1])))
    names: list[str] = []
    parts: list[Tensor] = []
    for at in range(0, len(chunk), together):
        rows, pictures = [], []
        part = chunk[at : at + together]
        for one, picture in zip(part, read_all([one.record for one in part]), strict=True):
            if isinstance(picture, OSError):
                broken(one.record, str(picture) or type(picture).__name__)
                continue
            rows.append(one)
            pictures.append(picture[:, ::-1] if one.mirrored else picture)
        if rows:
            with torch.no_grad():
                moments = encode(to_pixels(pictures)).detach().cpu()
            _check(moments, rows)
            if check is not None:
                cache.check_room(len(check[size]), moments)
                check = None
            names += [one.name for one in rows]
            parts.append(moments)
        done(len(part))
    if parts:
        cache.add(size, names, torch.cat(parts))


def _check(moments: Tensor, rows: Sequence[Wanted]) -> None:
    if moments.ndim != 4 or len(moments) != len(rows) or moments.shape[1] % 2:
        raise DataError(
            f"the encoder made {tuple(moments.shape)} of {len(rows)} pictures; moments are (n, 2 channels, h, w)"
        )
    good = moments.isfinite().flatten(1).all(1).tolist()
    bad = [one.key for one, fine in zip(rows, good, strict=True) if not fine]
    if bad:
        raise DataError(
            f"the VAE makes NaN or infinite latents of {some(bad)}: some VAEs overflow in float16. Encode in float32 "
            "or bfloat16"
        )
