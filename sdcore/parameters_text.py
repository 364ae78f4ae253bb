"""The ``parameters`` text: what AUTOMATIC1111's web UI writes into pictures and many tools read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import Record

#: Short names of schedulers to the names that readers of the text know.
SAMPLERS = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "pndm": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler-a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2-a": "DPM2 a",
    "dpmpp-2m": "DPM++ 2M",
    "dpmpp-2m-sde": "DPM++ 2M SDE",
    "dpmpp-sde": "DPM++ SDE",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
}
#: Suffixes of those names to what readers call the schedule.
SPACINGS = {
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "trailing": "SGM Uniform",
    "zsnr": "SGM Uniform",
    "leading": "DDIM",
    "linspace": "Uniform",
}


def parameters_text(record: Record, size: tuple[int, int] | None = None) -> str:
    """Write a record as the text that other tools read: prompt, negative prompt, and a line of settings.

    Values with a comma, colon or line break are quoted as JSON strings, as the web UI does. ``Clip skip``
    counts as it does there: 2 for ``clip_skip=1``, which leaves out one layer. Settings that plugins put
    under ``"parameters"`` of their metadata follow; they cannot replace one that is there.

    Args:
        record: the record of the picture.
        size: width and height of the picture, for a request that names none.
    """
    request = {**record.request, **record.changes}
    lines = [_text(request.get("prompt")).strip()]
    if negative := _text(request.get("negative_prompt")).strip():
        lines.append(f"Negative prompt: {negative}")
    settings: dict[str, object] = {}
    for key, value in (*_settings(record, size), *_of_plugins(record)):
        if value is not None and value != "":
            settings.setdefault(key, value)
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()))
    return "\n".join(lines).strip()


def _settings(record: Record, size: tuple[int, int] | None) -> Iterator[tuple[str, object]]:
    request = {**record.request, **record.changes}
    width, height = request.get("width"), request.get("height")
    if not (width and height) and size is not None:
        width, height = size
    sampler, spacing, noise = _sampler(request.get("scheduler"))
    skip = request.get("clip_skip")
    yield "Steps", request.get("steps")
    yield "Sampler", sampler
    yield "Schedule type", spacing
    yield "CFG scale", request.get("guidance_scale")
    yield "CFG rescale", request.get("guidance_rescale") or None
    yield "Seed", record.seed
    yield "Size", f"{width}x{height}" if width and height else None
    yield "Model hash", _model_hash(record.model.components)
    yield "Model", re.sub(r"\.(safetensors|ckpt)$", "", re.split(r"[\\/]", record.model.source)[-1])
    yield "Denoising strength", request.get("strength") if request.get("image") else None
    yield "Clip skip", skip + 1 if isinstance(skip, int) and skip > 0 else None
    yield "Eta", request.get("eta") or None
    yield "Noise Schedule", noise
    yield "Plugins", ", ".join(_plugins(request.get("use")))
    yield "Version", f"sdcore {record.software['sdcore']}" if "sdcore" in record.software else "sdcore"


def _of_plugins(record: Record) -> Iterator[tuple[str, object]]:
    for metadata in record.metadata.values():
        extra = metadata.get("parameters")
        for key, value in extra.items() if isinstance(extra, dict) else ():
            # Keys of any other form would make the line unreadable for those who parse it.
            if re.fullmatch(r"\w[\w \-/]{1,80}", key) and isinstance(value, str | int | float):
                yield key, value


def _plugins(use: object) -> Iterator[str]:
    for item in use if isinstance(use, list) else ():
        if isinstance(item, dict) and isinstance(item.get("plugin"), str):
            yield item["plugin"]


def _sampler(scheduler: object) -> tuple[str | None, str | None, str | None]:
    if not isinstance(scheduler, str):
        return None, None, None
    base, _, spacing = scheduler.rpartition("-")
    if not base or spacing not in SPACINGS:
        return SAMPLERS.get(scheduler, scheduler), None, None
    return SAMPLERS.get(base, base), SPACINGS[spacing], "Zero Terminal SNR" if spacing == "zsnr" else None


def _model_hash(components: dict[str, str]) -> str | None:
    for name in ("model", "unet", *sorted(components)):
        if name in components:
            return components[name][:10]
    return None


def _text(value: Any) -> str:
    """One line break for every kind, and no character that a text chunk or a terminal cannot hold."""
    text = "" if value is None else str(value)
    text = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", text)


def _quoted(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = _text(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,\n:]", text) else text
