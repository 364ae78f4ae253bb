"""Taking only some of a source's pictures, by what its metadata says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sdcore_train.config import Source

from .errors import DataError
from .rows import Row
from .skips import some

#: So many different values of a column are remembered for a message.
SEEN = 50


def chosen_rows(rows: Iterator[Row], source: Source) -> Iterator[Row]:
    """The rows that have, in every column of ``source.where``, one of the values given there.

    Numbers are compared as they are written in JSON; of a list one value is enough.

    Raises:
        DataError: there are none; says which values there are.
    """
    seen: dict[str, dict[str, None]] = {column: {} for column in source.where}
    taken = 0
    for row in rows:
        found = {column: _values(row.columns.get(column)) for column in source.where}
        for column, values in found.items():
            if len(seen[column]) < SEEN:
                seen[column].update(dict.fromkeys(values))
        if all(set(values) & set(source.where[column]) for column, values in found.items()):
            taken += 1
            yield row
    if not taken and source.where:
        there = "; ".join(f"{column}: {some(list(values)) or 'no such column'}" for column, values in seen.items())
        wanted = ", ".join(f"{column} in {list(values)}" for column, values in source.where.items())
        raise DataError(f"{source.path}: `where` leaves no pictures ({wanted}); there are {there}")


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [one if isinstance(one, str) else json.dumps(one, default=str) for one in values]
