"""Small data sets on disk, and the data of a training on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sdcore_train.config import Captions, Pictures, Source, TrainConfig
from sdcore_train.data import Data
from sdcore_train.records import Batch


def noise(seed: int, height: int = 16, width: int = 16) -> Image.Image:
    """A picture that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pictures(folder: Path, sizes: Sequence[tuple[int, int]], rows: bool = True, **columns: Sequence[Any]) -> Path:
    """A folder of PNG pictures of sizes (height, width), with metadata.jsonl unless ``rows`` is False."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, size in enumerate(sizes):
        name = f"{index:03d}.png"
        noise(index, *size).save(folder / name)
        more = {key: values[index] for key, values in columns.items() if values[index] is not None}
        lines.append(json.dumps({"file_name": name, "text": f"caption {index}", **more}))
    if rows:
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def break_body(path: Path) -> None:
    """Damage a PNG behind its header."""
    data = bytearray(path.read_bytes())
    data[60:] = bytes(len(data) - 60)
    path.write_bytes(bytes(data))


def data_of(*sources: Source | Path, size: tuple[int, int] = (16, 16), **changes: Any) -> Data:
    """Data of sources; fields of the configuration, of its pictures and captions by their names."""
    said = changes.pop("said", [])
    processes = changes.pop("processes", 1)
    groups: dict[str, dict[str, Any]] = {"pictures": {"bucket_step": 8}, "captions": {"dropout": 0.0}, "": {}}
    for name, value in changes.items():
        group = next(
            (g for g, kind in (("pictures", Pictures), ("captions", Captions)) if name in kind.model_fields), ""
        )
        groups[group][name] = value
    config = TrainConfig(
        data=tuple(s if isinstance(s, Source) else Source(path=str(s)) for s in sources),
        pictures=Pictures(**groups["pictures"]),
        captions=Captions(**groups["captions"]),
        **groups[""],
    )
    return Data(config, size=size, multiple=8, say=said.append, processes=processes, progress=False)


def take(data: Data, count: int, start: int = 0, **which: int) -> list[Batch]:
    """Some batches of a stream, which is closed then."""
    stream = data.stream(start, **which)
    try:
        return list(islice(stream, count))
    finally:
        stream.close()  # type: ignore[attr-defined]  # it is a generator


def assert_same(left: Sequence[Batch], right: Sequence[Batch]) -> None:
    """Equal to the last bit."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for name in one.__dataclass_fields__:
            a, b = getattr(one, name), getattr(other, name)
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name
