"""Changes of a training's configuration: values for what the user left open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from sdcore_train import Source, TrainConfig, changed

from sdcore import Options

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
T = TypeVar("T", bound=Options)


def with_defaults(section: T, **values: Any) -> T:
    """A section of the configuration with these values where nothing was given."""
    return changed(section, **{name: value for name, value in values.items() if name not in section.model_fields_set})


def enough(sources: Sequence[Source], config: TrainConfig) -> list[Source]:
    """Sources with more repeats, if their pictures are fewer than a batch: subjects have few pictures by nature.

    Only pictures in folders can be counted here.
    """
    visits = sum(source.repeats * pictures_below(Path(source.path)) for source in sources)
    wanted = config.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 < visits < wanted:
        return list(sources)
    return [changed(source, repeats=source.repeats * -(-wanted // visits)) for source in sources]


def pictures_below(folder: Path) -> int:
    """How many pictures are in a folder and those below it."""
    files = [name for _, _, names in os.walk(folder.expanduser(), followlinks=True) for name in names]
    return sum(name.lower().endswith(PICTURES) and not name.startswith(".") for name in files)


def with_sources(config: TrainConfig, sources: list[Source]) -> TrainConfig:
    """The configuration with further sources of pictures; none is taken twice."""
    data = list(config.data)
    for source in sources:
        if source not in data:
            data.append(source)
    return config.model_copy(update={"data": tuple(data)})
