"""What was measured already: an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def digest_of_code(folders: Iterable[Path]) -> str:
    """Changes with every source file in some folders: what other code measured does not count."""
    digest = hashlib.blake2b(digest_size=8)
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(repr((path.relative_to(folder).as_posix(), path.read_bytes())).encode())
    return digest.hexdigest()


class Kept:
    """Numbers and pictures by name, in a folder that depends on everything that decides them.

    Args:
        top: the folder above.
        facts: JSON, what decides the measurements.
    """

    def __init__(self, top: Path, facts: Any) -> None:
        digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()
        self._folder = top / digest

    def get(self, name: str) -> tuple[dict[str, Any], list[Image.Image]] | None:
        """Numbers and pictures, or None."""
        folder = self._folder / name.replace(" ", "-").replace(",", "")
        if not (folder / "numbers.json").is_file():
            return None
        numbers = json.loads((folder / "numbers.json").read_text())
        return numbers, [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]

    def put(self, name: str, numbers: dict[str, Any], pictures: Sequence[Image.Image]) -> None:
        """Keep them, whole or not at all."""
        folder = self._folder / name.replace(" ", "-").replace(",", "")
        beside = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for number, picture in enumerate(pictures):
            picture.save(beside / f"{number:02d}.png")
        (beside / "numbers.json").write_text(json.dumps(numbers))
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
