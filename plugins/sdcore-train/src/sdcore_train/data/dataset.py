"""The data of a training: which pictures there are, and the stream of batches."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore_train.config import TrainConfig
from sdcore_train.randomness import number_of
from sdcore_train.records import Batch, Record

from .ahead import read_ahead
from .buckets import Size
from .errors import DataError
from .latents import LatentCache, Wanted, fill, row_name
from .loading import Loader
from .order import Order, WeightedOrder, score_weights
from .placing import bucket_sizes_of, place, reasons, too_few
from .processes import read_in_processes
from .progress import counted, watched
from .shares import SharedOrder, shares_of
from .skips import Skips
from .sources import source_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Say = Callable[[str], None]


def say_on_stderr(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr)


class Data:
    """Pictures and captions, in an order that depends on the seed alone.

    Args:
        config: of the training.
        size: (height, width) in pixels that pictures have if they are not sorted into buckets; the area of buckets.
        multiple: what sizes must be multiples of, in pixels.
        say: is told of what is left out.
        processes: that train together.
        progress: a bar while many files are looked at, if stderr is a terminal.
        but: a folder whose pictures are passed over; None is the output folder.

    Attributes:
        records: the pictures that can be used, ordered by source and key.
        buckets: (height, width) to the number of its pictures.

    Raises:
        DataError: there is nothing to train on, or not as the configuration says.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        size: Size,
        multiple: int,
        say: Say = say_on_stderr,
        processes: int = 1,
        progress: bool = True,
        but: Path | None = None,
    ) -> None:
        self._config = config
        self._processes = processes
        self._skips = Skips(config.pictures.broken == "error")
        sizes = bucket_sizes_of(config, size, multiple)
        found: list[tuple[Record, int, Size]] = []
        if not config.data:
            raise DataError("data: there is none: give a folder of pictures with captions")
        destination = but or Path(config.output)
        for source in config.data:
            if Path(source.path).expanduser().resolve() == destination.resolve():
                raise DataError(
                    f"data: {source.path} is the output folder too, and samples would become data: choose another"
                )
            # Names below one source need no more than themselves; those of several may be the same.
            skips = self._skips.within(source.path.rstrip("/") + "/") if len(config.data) > 1 else self._skips
            records = source_records(source, skips, watched if progress else iter, destination)
            found += [(r, source.repeats, b) for r, b in place(records, sizes, config, self._skips)]
        if not found:
            raise DataError(f"data: no pictures are left: {reasons(self._skips)}")
        self.records: tuple[Record, ...] = tuple(record for record, _, _ in found)
        self._places: dict[str, int] | None = None
        self._repeats = [repeats for _, repeats, _ in found]
        self._sizes = [bucket for _, _, bucket in found]
        self.buckets: Mapping[Size, int] = dict(sorted(Counter(self._sizes).items()))
        visits = sum(self._repeats)
        if visits < config.batch_size * processes:
            raise DataError(too_few(visits, config.batch_size, processes))
        self._loader = Loader(config, self.records, self._sizes, self._skips, say)
        if self._skips:
            count = len(self._skips)
            say(f"{count} {'picture is' if count == 1 else 'pictures are'} left out: {reasons(self._skips)}")
        rare = [f"{h}x{w} ({n})" for (h, w), n in self.buckets.items() if n < config.batch_size * processes]
        if rare:
            say(
                "these sizes (height x width) have fewer pictures than a batch, so that some of theirs are visited "
                f"more than once an epoch: {', '.join(rare)}"
            )
        self.batches_per_epoch: int = self._order(processes).batches_per_epoch

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(key, reason) of pictures that are left out: broken, too small, not there."""
        return self._skips.pairs

    @property
    def fingerprint(self) -> dict[str, str]:
        """Hashes of what makes a training this one: which pictures, their files, captions, scores, masks and controls.

        A file counts by its size (in a shard by its content too), so data that was copied is the same.
        """
        rows = list(zip(self.records, self._repeats, self._sizes, strict=True))
        return {
            "pictures": _hashed((record.key, repeats, size) for record, repeats, size in rows),
            "files": _hashed(record.content for record in self.records),
            "captions": _hashed(record.captions for record in self.records),
            "scores": _hashed(record.score for record in self.records),
        }

    def stream(self, start: int, *, process: int = 0, processes: int | None = None) -> Iterator[Batch]:
        """Batches without end, from a micro-batch on.

        ``stream(k)`` gives what ``stream(0)`` gives after k batches, bit for bit.

        Args:
            start: number of the first micro-batch, from 0.
            process: which of the processes this is; it gets its slice of every batch.
            processes: how many there are; None is what was said in the beginning.

        Raises:
            DataError: (from the iterator) pictures cannot be read.
        """
        count = self._processes if processes is None else processes
        if not 0 <= process < count or start < 0:
            raise ValueError(f"process {process} of {count}, start {start}: out of range")
        order, size = self._order(count), self._config.batch_size
        slots = range(process * size, (process + 1) * size)

        def make(number: int) -> Batch:
            return self._loader.batch(number, order.at(number), slots)

        pictures = self._config.pictures
        if not pictures.workers:
            return read_ahead(make, start, pictures.prefetch)
        return self._from_processes(make, start)

    def _from_processes(self, make: Callable[[int], Batch], start: int) -> Iterator[Batch]:
        """The stream made by processes; what they find broken is told here."""
        pictures = self._config.pictures

        def make_there(number: int) -> tuple[Batch, list[tuple[int, str]]]:
            found = self._loader.collect()
            return make(number), found

        stream = read_in_processes(make_there, start, pictures.prefetch, pictures.workers)
        with closing(stream):  # type: ignore[type-var]  # it is a generator
            for batch, broken in stream:
                for index, reason in broken:
                    self._loader.report(index, reason)
                yield batch

    def picture(self, key: str) -> NDArray[Any]:
        """A picture as batches have it, uint8 (height, width, 3), not mirrored.

        Raises:
            OSError: it cannot be read.
        """
        if self._places is None:
            self._places = {record.key: index for index, record in enumerate(self.records)}
        return self._loader.picture(self._places[key])

    def cache_latents(
        self,
        encode: Callable[[Tensor], Tensor],
        key: Mapping[str, str],
        progress: bool = True,
        *,
        process: int = 0,
        wait: Callable[[], None] | None = None,
    ) -> None:
        """Encode all pictures, as far as the cache lacks them; from then on batches have ``moments``, no ``pixels``.

        With ``pictures.flip`` the mirror images are encoded too. On disk, files are kept in ``latents`` in the
        cache's folder; what the key or a changed picture makes stale is not used any more.

        Args:
            encode: pixels (n, 3, height, width) in [-1, 1] to moments (n, 2 c, h, w); its dtype is kept.
            key: what moments depend on besides the picture, such as the VAE's hash and the precision.
            progress: a bar, if stderr is a terminal.
            process: which of the processes this is: with a cache on disk each encodes its part.
            wait: waits until all processes have come so far.

        Raises:
            DataError: the encoder gives something that is not finite; crops are random.
            OutputError: the cache cannot be written.
        """
        pictures = self._config.pictures
        if pictures.crop != "center":
            raise DataError("pictures: latents of random crops cannot be cached: set crop to 'center'")
        folder = None
        if pictures.cache == "disk":
            folder = Path(pictures.cache_folder or Path(self._config.output) / "cache") / "latents"
        cache = LatentCache(key, folder)
        names = [
            [row_name(record, size, mirrored) for mirrored in ((False, True) if pictures.flip else (False,))]
            for record, size in zip(self.records, self._sizes, strict=True)
        ]
        wanted = [
            Wanted(index, bool(mirrored), self.records[index].key, name, self._sizes[index])
            for index, both in enumerate(names)
            for mirrored, name in enumerate(both)
            if name not in cache and (folder is None or index % self._processes == process)
        ]
        with counted(len(wanted), progress and bool(wanted)) as done:
            fill(cache, wanted, self._loader.picture, encode, self._loader.report, done)
        if wait is not None:
            wait()
            cache.refresh()
        self._loader.use_latents(lambda index, mirrored: cache.get(names[index][mirrored]))

    def _order(self, processes: int) -> Order | WeightedOrder | SharedOrder:
        config = self._config
        shares = config.pictures.shares
        if not shares:
            return self._order_of(range(len(self.records)), config.batch_size * processes)
        roles = [record.role for record in self.records]
        groups: list[tuple[Order | WeightedOrder, int]] = []
        for role, count in shares_of(shares, config.batch_size, roles, len(self.buckets)):
            members = [i for i, one in enumerate(roles) if (one == role if role is not None else one not in shares)]
            groups.append((self._order_of(members, count * processes, role or ""), count))
        return SharedOrder(groups, processes)

    def _order_of(self, indices: Iterable[int], whole: int, role: str = "") -> Order | WeightedOrder:
        config = self._config
        members: dict[Size, list[int]] = {}
        for index in indices:
            members.setdefault(self._sizes[index], []).extend([index] * self._repeats[index])
        members = dict(sorted(members.items()))
        seed = number_of(config.seed, role) if role else config.seed
        power = config.pictures.score_power
        if not power:
            return Order(seed, list(members.values()), whole)
        if all(record.score is None for record in self.records):
            columns = ", ".join(sorted({source.score_column for source in config.data}))
            raise DataError(
                f"pictures.score_power is {power:g}, but no picture has a score (column {columns}): "
                "give scores in metadata.jsonl, or set score_power to 0"
            )
        weights = score_weights([record.score for record in self.records], power)
        return WeightedOrder(
            seed, list(members.values()), [[weights[i] for i in row] for row in members.values()], whole
        )


def _hashed(values: Iterable[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(repr(value).encode())
    return digest.hexdigest()
