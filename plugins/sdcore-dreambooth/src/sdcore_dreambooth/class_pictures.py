"""Class pictures: what the model draws of a class before it is trained, kept in a folder.

A folder has the pictures ``00000.png``, ``00001.png``, ..., ``metadata.jsonl`` with their prompts, and the hidden file
``.drawn.json``, which says with what they were drawn. Pictures are written whole or not at all, so a drawing that was
interrupted goes on where it was; a folder that another model or other settings filled is drawn anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore_train import ConfigError

from sdcore.files import make_folder, write_atomic

if TYPE_CHECKING:
    from sdcore_train import Job, TrainConfig

    from .prior_options import Prior

ABOUT, METADATA, SPARE = ".drawn.json", "metadata.jsonl", ".spare"
_OURS = re.compile(r"\d{5,}\.png")


@dataclass(frozen=True)
class ClassPictures:
    """Class pictures of one class: where they are, and what they show."""

    folder: Path
    prompts: tuple[str, ...]


def class_pictures(prompts: Sequence[str], prior: Prior, config: TrainConfig, cache: Path) -> ClassPictures:
    """Which folder is meant for class pictures.

    Args:
        prompts: of the class.
        prior: how they are drawn.
        config: of the training: which model the user named, and which size.
        cache: the folder above.
    """
    height, width = config.pictures.height, config.pictures.width
    settings = [list(prompts), prior.class_request, prior.class_seed, config.model, height, width or height]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=4).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", prompts[0].lower()).strip("-")[:40] or "class"
    return ClassPictures(cache / f"{slug}-{digest}", tuple(prompts))


def draw_class_pictures(job: Job, wanted: ClassPictures, prior: Prior) -> list[Path]:
    """Draw what is missing; several processes share the work.

    Picture ``i`` has the prompt ``i`` modulo their number and the seed ``class_seed + i``. A trial (``job.dry``) takes
    what is there, and draws a few if that is nothing.

    Args:
        job: the training, before it begins.
        wanted: where to and of what.
        prior: how many and how.

    Returns:
        What this process wrote.

    Raises:
        ConfigError: the folder holds pictures that were not drawn by this function.
        OutputError: a picture cannot be written. Those before it stand.
    """
    if job.dry and any(wanted.folder.glob("*.png")):
        return []
    count = min(prior.class_count, job.config.batch_size) if job.dry else prior.class_count
    if job.main:
        _make_ready(job, wanted.folder, _settings(job, wanted, prior), count)
    job.accelerator.wait_for_everyone()
    missing = [i for i in range(count) if not (wanted.folder / name_of(i)).exists()]
    mine = missing[job.process :: job.accelerator.num_processes]
    if missing and job.main:
        job.say(f"drawing {len(missing)} class pictures into {wanted.folder}")
    if mine:
        _draw(job, wanted, prior, mine)
    job.accelerator.wait_for_everyone()
    written = [wanted.folder / name_of(index) for index in mine]
    if job.main:
        lines = [{"file_name": name_of(i), "text": _prompt(wanted, i)} for i in range(count)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        written += [write_atomic(wanted.folder / METADATA, text.encode(), overwrite=True), wanted.folder / ABOUT]
    return written


def name_of(index: int) -> str:
    """The file of a class picture."""
    return f"{index:05d}.png"


def _prompt(wanted: ClassPictures, index: int) -> str:
    return wanted.prompts[index % len(wanted.prompts)]


def _settings(job: Job, wanted: ClassPictures, prior: Prior) -> dict[str, Any]:
    """Everything that decides a picture but its number."""
    return {
        "model": job.model.hashes(),
        "scheduler": job.model.scheduler_config,
        "request": {**job.model.defaults, **prior.class_request},
        "prompts": list(wanted.prompts),
        "seed": prior.class_seed,
        "size": list(job.size),
    }


def _make_ready(job: Job, folder: Path, settings: Mapping[str, Any], count: int) -> None:
    make_folder(folder)
    about = folder / ABOUT
    text = json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n"
    if about.exists():
        before = about.read_text(encoding="utf-8", errors="replace")
        if before != text:
            job.say(f"the class pictures in {folder} are of {_what_differs(before, text)}: they are drawn anew")
            _clear(folder)
    elif any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds files, and nothing says with what they were drawn: choose another class_cache, or give "
            "pictures of yours as class_folder"
        )
    write_atomic(about, text.encode(), overwrite=True)
    _keep(folder, count)


def _what_differs(before: str, now: str) -> str:
    try:
        old, new = json.loads(before), json.loads(now)
        changed = [name for name in new if old.get(name) != new[name]]
    except (ValueError, AttributeError):
        return "unknown origin"
    return "another model" if "model" in changed else "other settings (" + ", ".join(changed) + ")"


def _clear(folder: Path) -> None:
    """Remove what this module wrote, and nothing else."""
    shutil.rmtree(folder / SPARE, ignore_errors=True)
    for path in list(folder.iterdir()):
        if _OURS.fullmatch(path.name) or path.name == METADATA:
            path.unlink()


def _keep(folder: Path, count: int) -> None:
    """Put aside pictures beyond ``count``, which an earlier training wanted, and take back those below it."""
    spare = folder / SPARE
    beyond = [p for p in folder.iterdir() if _OURS.fullmatch(p.name) and int(p.stem) >= count]
    if beyond:
        spare.mkdir(exist_ok=True)
        for path in beyond:
            path.replace(spare / path.name)
    for path in list(spare.iterdir()) if spare.is_dir() else ():
        if _OURS.fullmatch(path.name) and int(path.stem) < count:
            path.replace(folder / path.name)


def _draw(job: Job, wanted: ClassPictures, prior: Prior, indices: Sequence[int]) -> None:
    import torch

    from sdcore import Engine
    from sdcore.cli.kit import open_bar

    for module in job.model.components.values():
        module.to(job.device)  # where the training will have them anyway
    bar = open_bar(len(indices), "picture") if job.progress and job.main else None
    try:
        with torch.no_grad(), job.evaluating():
            engine = Engine(job.model, plugins=[])
            for run in _runs(wanted, indices, prior.class_batch):
                fields: dict[str, Any] = {"height": job.size[0], "width": job.size[1], **prior.class_request}
                seeds = [prior.class_seed + index for index in run]
                result = engine.generate(_prompt(wanted, run[0]), seeds=seeds, **fields)
                for index, picture in zip(run, result.pictures, strict=True):
                    write_atomic(wanted.folder / name_of(index), picture.encode("png"), overwrite=True)
                if bar is not None:
                    bar.update(len(run))
    finally:
        if bar is not None:
            bar.close()


def _runs(wanted: ClassPictures, indices: Sequence[int], together: int) -> list[list[int]]:
    """The indices in groups that one request can draw: of one prompt, and not too many."""
    by_prompt: dict[str, list[int]] = {}
    for index in indices:
        by_prompt.setdefault(_prompt(wanted, index), []).append(index)
    return [group[at : at + together] for group in by_prompt.values() for at in range(0, len(group), together)]
