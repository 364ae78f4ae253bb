"""Replay: the picture of a record made again, and every difference explained.

A record that was read is untrusted. It names the model and the assets by hash and never by a path that would be
opened: the model is one that the user names or that is installed, the assets are files that the user allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .differences import differences
from .discovery import discover
from .errors import ModelError, RecordError
from .picture_files import read_record
from .record import Record, shown
from .replay_assets import Allowed, fill_in
from .request import GenerateRequest
from .trust import check_lock

if TYPE_CHECKING:
    from PIL.Image import Image

    from .engine import Engine
    from .events import Event
    from .result import OnePicture

Source = str | os.PathLike[str] | bytes | Record


@dataclass(frozen=True, eq=False)
class Replay:
    """A picture made again.

    Attributes:
        picture: the picture made here.
        record: the record that it was made from.
        identical: whether every pixel is as it was recorded.
        differences: what is other here than where it was made, a sentence each. Something may differ (a version)
            and the pixels be identical all the same.
        edited: whether the pixels in the given PNG are not those that were recorded: it was changed since. None
            where that cannot be told (JPEG, WebP, a record alone).
    """

    picture: OnePicture
    record: Record
    identical: bool
    differences: list[str]
    edited: bool | None = None

    @property
    def image(self) -> Image:
        """The picture made here."""
        return self.picture.image


def replay_picture(
    source: Source,
    *,
    engine: Engine | None = None,
    model: str | os.PathLike[str] | None = None,
    allow: Iterable[str | os.PathLike[str]] = (),
    on_event: Callable[[Event], object] | None = None,
    **load: Any,
) -> Replay:
    """Make the picture of a record again: the whole batch that it was part of, on as many threads of torch.

    Args:
        source: a picture with a record, as a path or as bytes, or a record.
        engine: what makes it; None loads a model for it.
        model: the model to load; None finds the installed one whose weights have the recorded hashes.
        allow: files, and folders of files, that may be opened where the record names one of the same hash; and
            names, such as a hub id, that plugins may be given where the record has that very name.
        on_event: called with every event of the run.
        load: further arguments of :meth:`Engine.load`; device and dtype are else as recorded, where possible.

    Raises:
        RecordError: there is no record, it was changed, or the model, a plugin or an asset is missing here.
        SdcoreError: the run failed, as of :meth:`Engine.generate`.
    """
    record = source if isinstance(source, Record) else read_record(source)
    if record.seed not in record.batch:
        raise RecordError("the record is malformed: the seed of the picture is not among those of its batch")
    own = engine is None
    if engine is None:
        engine = _load(record, model, load)
    try:
        request = _request(record, engine, Allowed(allow))
        with _threads(record.threads):
            result = engine.generate(request, on_event=on_event)
            place = record.batch.index(record.seed)
            found = [picture for picture in result.pictures if picture.index == place]
            if not found:
                raise RecordError("the picture was withheld by a safety verdict here, so it cannot be compared")
            mine = found[0].record
    finally:
        if own:
            engine.close()
    identical = mine.pixels_sha256 == record.pixels_sha256
    return Replay(found[0], record, identical, _explained(record, mine, identical), _edited(source, record))


def _load(record: Record, model: str | os.PathLike[str] | None, load: Mapping[str, Any]) -> Engine:
    from .engine import Engine

    if load.get("locked") is not None:  # before plugins are imported to see whether the record's are there
        check_lock(load["locked"])
    if load.get("plugins") is None:
        _check_plugins(record, {found.name for found in discover(_plugins(record))})
    settings = {"device": _device(record.device), "dtype": _dtype(record.dtype)}
    wanted = record.model.scheduler.get("prediction_type")
    if wanted in ("epsilon", "v_prediction", "sample"):
        settings["prediction_type"] = wanted
    given = {name: value for name, value in load.items() if value is not None}
    return Engine.load(_find_model(record) if model is None else model, **{**settings, **given})


def _find_model(record: Record) -> str:
    """The installed model with the recorded hashes; found without loading any."""
    from .models import installed_models
    from .models.hashes import of_files
    from .models.weight_files import find_weights

    models = [model for model in installed_models() if model.path is not None]
    # The likely one first: hashing takes time.
    for model in sorted(models, key=lambda model: model.name != record.model.source):
        assert model.path is not None
        try:
            if all(
                _component(name) and of_files(find_weights(model.path / name, False)) == digest
                for name, digest in record.model.components.items()
            ):
                return model.name
        except ModelError:
            continue
    names = ", ".join(model.name for model in models) or "none"
    raise RecordError(
        f"no installed model has the weights of {shown(record.model.source)} ({shown(record.model.family)}), which "
        f"made it (installed: {names}): name it, model='...' (--model), or install its package"
    )


def _component(name: str) -> bool:
    return name in ("unet", "vae", "text_encoder", "text_encoder_2")  # a name out of a record is no path


def _device(recorded: str) -> str | None:
    """The recorded device, if it is here; else what is the default here."""
    import torch

    kind = recorded.partition(":")[0]
    return kind if kind == "cpu" or (kind == "cuda" and torch.cuda.is_available()) else None


def _dtype(recorded: str) -> str | None:
    return recorded if recorded in ("float32", "float16", "bfloat16") else None


def _request(record: Record, engine: Engine, allowed: Allowed) -> GenerateRequest:
    _check_plugins(record, engine.host.records)
    fields = dict(record.request)
    for name in ("seed", "seeds", "count", "batch_size"):
        fields.pop(name, None)
    fields |= fill_in(record, engine, allowed)
    return GenerateRequest(**fields, seeds=record.batch, batch_size=len(record.batch))


def _plugins(record: Record) -> list[str]:
    entries = record.request.get("use", [])
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("plugin"), str) for entry in entries
    ):
        raise RecordError("the record is malformed: request.use is no list of plugins and options")
    return [entry["plugin"] for entry in entries]


def _check_plugins(record: Record, known: Iterable[str]) -> None:
    missing = [name for name in dict.fromkeys(_plugins(record)) if name not in set(known)]
    if not missing:
        return
    packages, files = [], []
    for name in missing:
        if f"plugin {name}" in record.software:
            files.append(shown(name))
        else:
            # Only names of this form: a record must not talk anybody into installing what it likes.
            version = record.software.get(f"sdcore-{name}", "")
            packages.append(f"sdcore-{shown(name)}" + (f"=={shown(version)}" if version else ""))
    remedy = [f"pip install {' '.join(packages)}"] if packages else []
    remedy += [f"give the file that {', '.join(files)} is in (--plugin FILE)"] if files else []
    names = ", ".join(map(shown, missing))
    raise RecordError(f"it was made with plugins that are not here: {names}; to have them: {'; '.join(remedy)}")


@contextmanager
def _threads(recorded: int) -> Iterator[None]:
    """As many threads of torch as recorded, where the machine has them: sums come out otherwise with others."""
    import torch

    before = torch.get_num_threads()
    if recorded <= max(os.cpu_count() or 1, before):
        torch.set_num_threads(recorded)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _explained(record: Record, mine: Record, identical: bool) -> list[str]:
    found = differences(
        record,
        software=mine.software,
        model_components=mine.model.components,
        device=mine.device,
        dtype=mine.dtype,
        threads=mine.threads,
        platform=mine.platform,
        scheduler=mine.model.scheduler,
    )
    if record.plan != mine.plan:
        then, here = "; ".join(map(shown, record.plan)), "; ".join(mine.plan)
        found.append(f"its plugins did {then or 'nothing'}; here they do {here or 'nothing'}")
    if len(mine.batch) != len(record.batch):
        found.append(f"it was made in a batch of {len(record.batch)}; only {len(mine.batch)} fit into memory here")
    if record.index != mine.index and not identical:
        found.append(
            f"it was picture {record.index + 1} of its request, here it is {mine.index + 1}, which a plugin may mind"
        )
    if not identical and not found:
        found.append("nothing that is recorded differs; another model of processor or another driver may be why")
    return found


def _edited(source: Source, record: Record) -> bool | None:
    from PIL import Image

    from .images import image_sha256, load_image

    if isinstance(source, Record):
        return None
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data.startswith(b"\x89PNG"):
        return None
    try:
        return image_sha256(load_image(data)) != record.pixels_sha256
    except (ValueError, Image.DecompressionBombError):  # cut short behind its head
        return True
