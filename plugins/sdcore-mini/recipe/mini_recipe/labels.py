"""What the pictures of the data set show, as numbers that a text encoder can be asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

NOBODY = -100
"""What torch's cross entropy leaves out."""


@cache
def says(caption: str, style: str, colour: str) -> tuple[bool, bool]:
    """Whether a caption says its picture's style, and its background."""
    return (
        re.search(rf"(^|[ ,]){re.escape(style)}( style| icon|,|$)", caption) is not None,
        caption.endswith(f"on {colour}") or f"{colour} background" in caption,
    )


@dataclass(frozen=True)
class Target:
    """Labels of a batch, (n,) each.

    Attributes:
        cell: which icon, of which thing in which style; of pairs ``NOBODY``.
        style, background: as the caption says; the number after the last is "not said".
        first, second: things of a pair; of icons ``NOBODY``.
        said: whether the caption says the style.
    """

    cell: Tensor
    style: Tensor
    background: Tensor
    first: Tensor
    second: Tensor
    said: Tensor

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        return Target(*(getattr(self, one.name).to(device) for one in fields(self)))


class Labels:
    """The labels of a data set.

    Args:
        data: its folder.
        cells: the icons, as pairs of thing and style; default: all but line art.
    """

    def __init__(self, data: Path, cells: Sequence[tuple[str, str]] | None = None) -> None:
        # Where there are several sources, the trainer puts a source's path before its pictures' names.
        self._prefix = f"{data.as_posix()}/"
        lines = (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        rows = [row for row in rows if row["style"] != "line art"]
        single = [row for row in rows if row["kind"] == "icon"]
        self.rows = {row["file_name"]: row for row in rows}
        self.cells = list(cells) if cells is not None else sorted({(row["concept"], row["style"]) for row in single})
        self.styles = sorted({row["style"] for row in rows})
        self.backgrounds = sorted({row["background"] for row in rows})
        self.things = sorted({thing for thing, _ in self.cells})
        self._cell = {cell: number for number, cell in enumerate(self.cells)}
        self._thing = {thing: number for number, thing in enumerate(self.things)}
        #: (cells, styles): the cells of the same thing in each style, -1 where there is none.
        self.siblings = torch.tensor(
            [[self._cell.get((thing, style), -1) for style in self.styles] for thing, _ in self.cells]
        )

    def of(self, keys: Sequence[str], captions: Sequence[str]) -> Target:
        """Labels of pictures by their file names, each with its caption.

        Raises:
            KeyError: a picture is not of the data set.
        """
        found = []
        for key, caption in zip(keys, captions, strict=True):
            row = self.rows[key.removeprefix(self._prefix)]
            style, background = row["style"], row["background"]
            style_said, background_said = says(caption, style, background)
            things = [self._thing[thing] for thing in row["concept"].split(" | ")]
            single = row["kind"] == "icon" and bool(caption)
            found.append(
                (
                    self._cell[row["concept"], style] if single else NOBODY,
                    self.styles.index(style) if style_said else len(self.styles),
                    self.backgrounds.index(background) if background_said else len(self.backgrounds),
                    things[0] if row["kind"] == "pair" and caption else NOBODY,
                    things[1] if row["kind"] == "pair" and caption else NOBODY,
                    style_said,
                )
            )
        return Target(*(torch.tensor(column) for column in zip(*found, strict=True)))


def icon_latents(path: Path) -> tuple[list[tuple[str, str]], Tensor]:
    """What icon_latents.py wrote: the icons, and (icons, values) of their latents on white and black."""
    with safe_open(path, "pt") as file:
        cells = [(thing, style) for thing, style in json.loads(file.metadata()["cells"])]
        return cells, file.get_tensor("latents").float().flatten(1)
