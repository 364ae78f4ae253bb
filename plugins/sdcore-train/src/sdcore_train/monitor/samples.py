"""The samples of a training as files: a sheet for each time, and one that shows how they change."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sdcore.files import make_folder, write_atomic

from .drawing import save_png
from .sheet import draw_sheet

_NAME = re.compile(r"step-(\d{8,})\.png")
PROGRESS = "progress.png"


def write_samples(
    folder: str | os.PathLike[str],
    step: int,
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    *,
    columns: Sequence[str] = (),
    most: int = 10,
) -> Path:
    """Write the samples drawn after ``step`` updates.

    ``step-00000500.png`` has all of them; ``first/`` keeps the first one of each prompt, of which ``progress.png``
    is made: a row for each of these prompts and a column for each time. Nothing has to be remembered between calls,
    so a resumed training goes on with the sheet.

    Args:
        folder: for the samples; made if absent.
        step: updates done.
        rows: prompts and their pictures.
        columns: headings of the sheet, such as the seeds.
        most: columns of the progress sheet: the first and the last time, and others evenly between.

    Returns:
        The path of the sheet.

    Raises:
        RequestError: there is no picture.
        OutputError: a file cannot be written.
    """
    top = make_folder(folder)
    path = draw_sheet(rows, top / f"step-{step:08d}.png", columns=columns, title=f"step {step}")
    first = make_folder(top / "first")
    names = []
    for number, (prompt, pictures) in enumerate(rows):
        if pictures:
            name = f"step-{step:08d}-{number:02d}.png"
            save_png(pictures[0], first / name)
            names.append({"prompt": prompt, "file": name})
    text = json.dumps({"step": step, "samples": names}, ensure_ascii=False, indent=1)
    write_atomic(first / f"step-{step:08d}.json", text.encode(), overwrite=True)
    draw_progress(top, [prompt for prompt, _ in rows], most=most)
    return path


def draw_progress(folder: str | os.PathLike[str], prompts: Sequence[str], *, most: int = 10) -> Path | None:
    """Draw ``progress.png`` again, of the first pictures that are there for these prompts; None if there are none.

    Raises:
        OutputError: it cannot be written.
    """
    times = _spread([time for path in sorted(Path(folder, "first").glob("step-*.json")) if (time := _read(path))], most)
    rows = []
    for prompt in dict.fromkeys(prompts):
        pictures = [_open(Path(folder, "first"), time["files"].get(prompt)) for time in times]
        if any(picture is not None for picture in pictures):
            rows.append((prompt, pictures))
    if not rows:
        return None
    columns = [f"step {time['step']}" for time in times]
    return draw_sheet(rows, Path(folder, PROGRESS), columns=columns)


def sheets(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """(step, path) of the sheets in a folder of samples, oldest first."""
    found = []
    for path in Path(folder).glob("step-*.png"):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def _spread(times: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    if len(times) <= most:
        return times
    last = len(times) - 1
    return [times[round(index * last / max(1, most - 1))] for index in range(most)]


def _read(path: Path) -> dict[str, Any] | None:
    """A step and its files by prompt; None where a file is broken, which costs a column and nothing else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files = {sample["prompt"]: sample["file"] for sample in reversed(found["samples"])}
        return {"step": int(found["step"]), "files": files}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open(folder: Path, name: str | None) -> Image.Image | None:
    if name is None:
        return None
    try:
        with Image.open(folder / name) as picture:
            picture.load()
            return picture.copy()
    except (OSError, SyntaxError, ValueError):
        return None
