"""What is other here than where a picture was made, said in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .record import Record, shown


def differences(
    record: Record,
    *,
    software: Mapping[str, str],
    model_components: Mapping[str, str],
    device: str,
    dtype: str,
    threads: int,
    platform: str | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> list[str]:
    """Say, a sentence each, what is other here than where the record was made and may change the picture.

    Args:
        record: the record of the picture.
        software: name to version of what is installed here; what the record does not name is left out.
        model_components: component to SHA-256 of the model that is loaded here.
        device: the device, dtype and threads of a run here, spelled as in the record.
        dtype: see ``device``.
        threads: see ``device``.
        platform: see ``device``; None leaves it out.
        scheduler: the settings that the model here gives its scheduler; None leaves them out.

    Returns:
        The sentences; empty if nothing differs. Texts out of the record have no control characters.
    """
    found = []
    for name, version in sorted(record.software.items()):
        if name not in software:
            found.append(f"{shown(name)} {shown(version)} made it, and is not installed here")
        elif software[name] != version:
            found.append(f"{shown(name)} {shown(version)} made it, {software[name]} is here")
    then = record.model.components
    for name in sorted(then.keys() | model_components.keys()):
        made, here = then.get(name), model_components.get(name)
        if made is None:
            found.append(f"the model here has a component {shown(name)} that the model that made it had not")
        elif here is None:
            found.append(f"the model that made it had a component {shown(name)} that is not in the one here")
        elif made != here:
            found.append(f"{shown(name)} {made[:10]} of the model made it, another one ({here[:10]}) is here")
    if scheduler is not None:
        for name in sorted(record.model.scheduler.keys() | scheduler.keys()):
            if record.model.scheduler.get(name) != scheduler.get(name):
                was, here = shown(record.model.scheduler.get(name)), shown(scheduler.get(name))
                found.append(f"the model's scheduler had {shown(name)} {was}, here it has {here}")
    if platform is not None and record.platform != platform:
        found.append(f"it was made on {shown(record.platform) or 'a platform not named'}, here it is {platform}")
    for what, was, here in (("device", record.device, device), ("dtype", record.dtype, dtype)):
        if was != here:
            found.append(f"it was made on {what} {shown(was)}, here it is {here}")
    if record.threads != threads:
        found.append(f"torch had {record.threads} as its number of threads, here it has {threads}")
    return found
