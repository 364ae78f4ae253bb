"""The files that a record names by hash, found among those that the user allows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assets import change_assets, files_below, folder_sha256, is_asset, latents_sha256
from .errors import ImageError, RecordError
from .models.hashes import of_file
from .record import Record, shown

if TYPE_CHECKING:
    from .engine import Engine
    from .resolve import Uses

MOST_FILES = 100_000


class Allowed:
    """Files, folders and names that may take the place of an asset. Nothing else is ever opened."""

    def __init__(self, allow: Iterable[str | os.PathLike[str]]) -> None:
        given = [os.fspath(item) for item in allow]
        self._names = frozenset(given)
        self._paths = [Path(item).expanduser() for item in given]

    @cached_property
    def _files(self) -> list[Path]:
        found = files_below(self._paths)
        if len(found) > MOST_FILES:
            raise RecordError(
                f"{len(found):,} files are allowed, more than {MOST_FILES:,}: name the folder more closely"
            )
        return found

    def file(self, digest: str, size: int | None) -> Path | None:
        """The file, or the folder, of this hash; only those of the right size are read."""
        for path in self._files:
            if size in (None, path.stat().st_size) and of_file(path) == digest:
                return path
        for top in self._paths:
            for folder in [top, *sorted(top.iterdir())] if top.is_dir() else []:
                if folder.is_dir() and folder_sha256(folder)[0] == digest:
                    return folder
        return None

    def picture(self, digest: str) -> Any:
        """The picture with these pixels, from a file of any format."""
        from .images import image_sha256, load_image

        for path in self._files:
            try:
                image = load_image(path)
            except ImageError:
                continue
            if image_sha256(image) == digest:
                return image
        return None

    def latents(self, digest: str) -> Any:
        """The tensor with these values, from a ``.safetensors`` file that ``sdcore generate`` wrote."""
        from .latent_files import read_latents

        for path in self._files:
            if path.suffix == ".safetensors" and path.stat().st_size < 2**28:
                try:
                    latents = read_latents(path)
                except ImageError:
                    continue
                if latents_sha256(latents)[0] == digest:
                    return latents
        return None

    def named(self, name: str) -> str | None:
        """The name, if the user allowed this very text."""
        return name if name in self._names else None


def fill_in(record: Record, engine: Engine, allowed: Allowed) -> dict[str, Any]:
    """``image`` and ``use`` of a record's request, with the files that the user allows in place of the hashes.

    Raises:
        RecordError: a file is missing among them, or the record names a path.
    """
    fields: dict[str, Any] = {}
    image = record.request.get("image")
    if image is not None:
        fields["image"] = _find("image", image, record, allowed)
    use = []
    # What a policy sets is as the policy says, here and now: its files are not looked for among those allowed.
    locked = {name for name, options in engine._always if options is not None and options.locked}
    for entry in record.request.get("use", ()):
        name, values = entry["plugin"], entry.get("options", {})
        if name in locked:
            continue
        factory = engine.host.plugin(name).options
        if not isinstance(values, Mapping):
            raise RecordError(f"the record is malformed: the options of {shown(name)} are no object")
        if factory is not None:

            def change(where: str, value: Any, name: str = name) -> Any:
                return _find(f"{name}: {where}", value, record, allowed)

            values = change_assets(factory, values, change)
        use.append({"plugin": name, "options": values})
    if "use" in record.request:
        fields["use"] = _without(use, engine._always)
    return fields


def _without(use: list[dict[str, Any]], policy: Uses) -> list[dict[str, Any]]:
    """What the engine adds to every run is in the record too, at the end; it must not come twice."""
    for name, options in policy:
        same = {"plugin": name, "options": {} if options is None else options.model_dump(mode="json")}
        if same in use:
            del use[len(use) - 1 - use[::-1].index(same)]
    return use


def _find(where: str, value: Any, record: Record, allowed: Allowed) -> Any:
    if not is_asset(value) or not all(isinstance(text, str) for text in value.values()):
        raise RecordError(
            f"the record names a path in {shown(where)}, and none out of a record is opened: {shown(value)}"
        )
    name, digest = value["asset"], value["sha256"]
    if not digest:
        found: Any = allowed.named(name)
        remedy = f"allow it by that name: allow=[{shown(name)!r}] (--allow {shown(name)})"
    else:
        size = next((asset.size for asset in record.assets if asset.sha256 == digest), None)
        memory = {"pixels": allowed.picture, "latents": allowed.latents}.get(name)
        found = allowed.file(digest, None if memory else size)
        found = memory(digest) if found is None and memory is not None else found
        remedy = "allow the file, or a folder that it is in: allow=[...] (--allow PATH); its name does not matter"
    if found is None:
        raise RecordError(
            f"{shown(where)}: {shown(name)}{f' (sha256 {shown(digest)[:16]})' if digest else ''} is needed, and is "
            f"not among what is allowed: {remedy}"
        )
    return str(found) if isinstance(found, Path) else found
