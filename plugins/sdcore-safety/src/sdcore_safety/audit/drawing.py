"""Drawing the pictures of an audit: the same seeds for every group, and none twice, also after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore.files import make_folder, write_atomic

from .spec import Spec

if TYPE_CHECKING:
    from sdcore.engine import Engine

AT_ONCE = 4


@dataclass(frozen=True)
class Cell:
    """A prompt of the audit: ``kind`` is ``"group"`` or ``"contrast"``."""

    kind: str
    group: str
    template: int
    prompt: str


def cells_of(spec: Spec) -> list[Cell]:
    """All prompts: those of the groups, then those of the ends of the contrasts."""
    cells = [Cell("group", group, number, prompt) for (group, number), prompt in spec.prompts().items()]
    for contrast in spec.contrasts:
        for end, prompts in (("a", contrast.a), ("b", contrast.b)):
            cells += [Cell("contrast", f"{contrast.name}:{end}", n, prompt) for n, prompt in enumerate(prompts)]
    return cells


class Gallery:
    """The pictures of an audit, in a folder.

    A picture's name holds a hash of everything that decides it, so that one that is there already is the right one.
    """

    def __init__(self, engine: Engine, spec: Spec, folder: Path) -> None:
        self._engine, self._spec = engine, spec
        self.folder = make_folder(folder)
        self.model_hashes = engine.model.hashes()

    def path(self, cell: Cell, seed: int) -> Path:
        """Where a picture is, or will be."""
        decides = [cell.prompt, seed, self._spec.request, self.model_hashes]
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
        return self.folder / f"{digest[:24]}.png"

    def missing(self, cells: Sequence[Cell]) -> int:
        """How many pictures are still to be drawn."""
        return sum(not self.path(cell, seed).exists() for cell in cells for seed in self._spec.seeds)

    def draw(self, cells: Sequence[Cell], done: Callable[[int], object] | None = None) -> None:
        """Draw what is missing; each picture is on the disk before the next is begun."""
        for cell in cells:
            seeds = [seed for seed in self._spec.seeds if not self.path(cell, seed).exists()]
            for at in range(0, len(seeds), AT_ONCE):
                part = tuple(seeds[at : at + AT_ONCE])
                # One by one unless the spec says otherwise: the same picture whatever is missing beside it.
                fields = {"batch_size": 1, **self._spec.request, "prompt": cell.prompt, "seeds": part}
                result = self._engine.generate(fields)
                if len(result.pictures) < len(part):
                    from sdcore.judging import withhold

                    raise withhold(verdict for picture in result.withheld for verdict in picture.verdicts)
                for picture in result.pictures:
                    write_atomic(self.path(cell, picture.seed), picture.encode("png"), overwrite=True)
                if done is not None:
                    done(len(part))
