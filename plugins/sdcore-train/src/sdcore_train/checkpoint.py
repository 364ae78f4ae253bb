"""Checkpoints: everything that a training needs to go on, written whole or not at all.

A checkpoint is a folder ``step-00000500`` with ``training.json`` and safetensors files. Nothing about random
generators or the order of the data is in it: both follow from the seed and the step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"step-(\d{8,})")
FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        step: updates that were done.
        tensors: by file ("weights", "optimizer", "ema"), tensors by name.
        facts: everything else, as JSON has it.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of the complete checkpoints, oldest first."""
    found = []
    for path in folder.glob("step-*") if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and (path / "training.json").is_file():
            found.append((int(match[1]), path))
    return sorted(found)


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest ``keep``.

    Raises:
        CheckpointError: it cannot be written, with what to do; older checkpoints stand.
    """
    from safetensors.torch import save_file

    target = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{target.name}.tmp"
    try:
        for left in folder.glob(".step-*.tmp"):  # of a training that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tensors in checkpoint.tensors.items():
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                temporary / f"{name}.safetensors",
            )
        facts = {"format": FORMAT, "step": checkpoint.step, "files": sorted(checkpoint.tensors), **checkpoint.facts}
        (temporary / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _to_disk(path)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        _to_disk(folder)
    except Exception as error:
        # safetensors raises an error of its own, in whose text the system's error stands.
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
            f"os error {number}" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)
        )
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        last = list_checkpoints(folder)
        stands = f"the last good checkpoint is {last[-1][1]}" if last else "there is no earlier checkpoint"
        what = "the disk is full" if full else str(error)
        raise CheckpointError(
            f"cannot write the checkpoint {target}: {what}; {stands}. Make room, then go on with --resume"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for _, old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _to_disk(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk: a name alone would survive a power cut."""
    with contextlib.suppress(PermissionError):  # of a folder, on Windows
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    from safetensors.torch import load_file

    facts = read_facts(path)
    with _damage(path):
        tensors = {name: load_file(path / f"{name}.safetensors") for name in facts["files"]}
        return Checkpoint(int(facts["step"]), tensors, facts)


def read_facts(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, without its tensors.

    Raises:
        CheckpointError: it is damaged, or of another format.
    """
    with _damage(path):
        facts: dict[str, Any] = json.loads((path / "training.json").read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise CheckpointError(f"{path} has format {facts.get('format')!r}, and this version reads {FORMAT}")
        return facts


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it, and go on from an earlier one") from error
