"""What can be wrong with a DreamBooth training, found before class pictures are drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sdcore import RecordError, RequestError, SdcoreError

from .configuring import pictures_below
from .tokens import token_warnings

if TYPE_CHECKING:
    from sdcore_train import Job

    from .options import DreamBooth

_DATA_SETS = (".tar", ".parquet", ".arrow")
LOOKED_AT = 16
"""Pictures of a class folder whose records are read."""


def problems_of(job: Job, options: DreamBooth) -> Iterator[str]:
    """What cannot work."""
    if job.model.family == "refiner":
        yield "dreambooth: the SDXL refiner only finishes pictures of other models; train the base model"
    for subject in options.all_subjects:
        yield from folder_problems(subject.path, f"pictures of {subject.token!r}")
        if options.prior_weight and subject.class_folder is not None:
            yield from folder_problems(subject.class_folder, f"class pictures for {subject.token!r}")
    if options.prior_weight:
        yield from _request_problems(job, options)


def folder_problems(path: str, what: str) -> Iterator[str]:
    """What is wrong with a source, as far as a look at the folder tells; patterns of shards are looked at later."""
    place = Path(path).expanduser()
    if any(mark in path for mark in "{*") or "://" in path or place.suffix == ".tar":
        return
    if not place.exists():
        yield f"{what}: there is no folder {path}: check the path"
    elif not place.is_dir():
        yield f"{what}: {path} is a file: give the folder that it is in"
    elif not pictures_below(place) and not any(path for suffix in _DATA_SETS for path in place.rglob("*" + suffix)):
        yield f"{what}: the folder {path} holds no pictures"


def look_at_data(job: Job, drawn: Collection[str]) -> None:
    """Find out what is wrong with the pictures that are there and with their size, before class pictures are drawn.

    Args:
        job: the training.
        drawn: folders of the class pictures.

    Raises:
        DataError: as it would be raised when the data is read.
    """
    from sdcore_train.data import Data
    from sdcore_train.prepare import multiple_of

    # Without class pictures there are no shares, and there may be less than a batch.
    alone = {
        "data": tuple(source for source in job.config.data if source.path not in drawn),
        "batch_size": 1,
        "pictures": job.config.pictures.model_copy(update={"shares": {}}),
    }
    config = job.config.model_copy(update=alone)
    Data(
        config,
        size=job.size,
        multiple=multiple_of(job),
        say=lambda text: None,
        progress=job.progress,
        but=job.destination,
    )


def _request_problems(job: Job, options: DreamBooth) -> Iterator[str]:
    """Whether the model would draw the class pictures."""
    if all(subject.class_folder is not None for subject in options.all_subjects):
        return
    from sdcore import Engine

    try:
        Engine(job.model, plugins=[]).explain("a thing", **options.class_request)
    except (RequestError, SdcoreError) as error:
        yield f"class pictures cannot be drawn: {error}"


def say_doubts(job: Job, options: DreamBooth, tokens: bool = True) -> None:
    """Tell of what may be meant otherwise; ``tokens``: whether tokens should mean nothing to the model."""
    for subject in options.all_subjects:
        for line in token_warnings(job.model.tokenizers, subject.token) if tokens else ():
            job.say(f"warning: {line}")
        if options.prior_weight and subject.class_folder is not None:
            for line in _strange(job, Path(subject.class_folder).expanduser()):
                job.say(f"warning: {line}")


def _strange(job: Job, folder: Path) -> Iterable[str]:
    """Class pictures that another model drew, as the records in them say."""
    from sdcore.picture_files import read_record

    pictures = sorted(path for path in folder.rglob("*.png") if not path.name.startswith("."))[:LOOKED_AT]
    for path in pictures:
        try:
            model = read_record(path).model
        except (RecordError, OSError):
            continue
        if model.components.get("unet") != job.model.hashes()["unet"]:
            yield (
                f"class pictures in {folder} were drawn by another model ({model.source}; see {path.name}): the prior "
                "that is kept is that model's, not this one's"
            )
            return
