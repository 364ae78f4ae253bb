"""Which shards a path names: one, all in a folder, or a pattern such as ``data-{000..012}.tar``."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import DataError
from .skips import some

_BRACES = re.compile(r"\{([^{}]*)\}")


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern stands for: ``{000..012}`` counts, ``{a,b}`` chooses; as in a shell.

    Raises:
        DataError: what stands in braces is neither.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    inside = found.group(1)
    count = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if count:
        first, last = int(count[1]), int(count[2])
        if last < first:
            raise DataError(f"{pattern}: {{{inside}}} counts down: write {{{count[2]}..{count[1]}}}")
        width = len(count[1]) if count[1].startswith("0") or len(count[1]) == len(count[2]) else 0
        choices = [str(number).zfill(width) for number in range(first, last + 1)]
    elif "," in inside:
        choices = inside.split(",")
    else:
        raise DataError(f"{pattern}: {{{inside}}} is neither a range such as {{000..012}} nor a choice such as {{a,b}}")
    before, behind = pattern[: found.start()], pattern[found.end() :]
    return [before + choice + rest for choice in choices for rest in expand_braces(behind)]


def shard_paths(source: str) -> list[Path]:
    """The shards that a path names, in order.

    Raises:
        DataError: there are none, or one of a pattern is missing.
    """
    if re.match(r"\w+://|pipe:", source):
        raise DataError(f"{source}: is an address, and shards are read from disk: download them first")
    if Path(source).expanduser().is_dir():
        paths = sorted(Path(source).expanduser().rglob("*.tar"))
        if not paths:
            raise DataError(f"{source}: holds no .tar file")
        return paths
    paths = [Path(name).expanduser() for name in expand_braces(source)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{source}: {len(missing)} of {len(paths)} shards are not there: {some(missing)}")
    return paths
