"""LoRA files on disk: one file, or a folder of peft. Headers are read first, tensors when they are needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import ModelError

from .scales import settings_by_component

if TYPE_CHECKING:
    from torch import Tensor

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_NAMES = (
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.bin",
)


@dataclass(frozen=True)
class Opened:
    """A LoRA's header, or the headers of a folder.

    Attributes:
        files: file to the prefix that its keys get, "" for none.
        shapes, metadata: of all files.
        settings: of peft, by component ("" for all).
        tensors: of a pickle, which has no header.
        stamp: changes when a file does.
    """

    files: Mapping[Path, str]
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Tensor] | None
    stamp: tuple[Any, ...]


def stamp_of(path: str | Path) -> tuple[Any, ...]:
    """Real path, size and time of change of every file that belongs to a LoRA.

    Raises:
        ModelError: there is no such file or folder, or a folder without a LoRA.
    """
    found: list[Any] = []
    for file in (item for pair in _find(Path(path)) for item in pair if isinstance(item, Path)):
        config = file.with_name("adapter_config.json")
        for one in (file, config) if config.is_file() else (file,):
            state = one.stat()
            found.append((str(one.resolve()), state.st_size, state.st_mtime_ns))
    return tuple(found)


def open_lora(path: str | Path, allow_pickle: bool = False) -> Opened:
    """Read the header of a LoRA.

    Raises:
        ModelError: it is missing, damaged, empty, or a pickle without leave; saying what it is and what to do.
    """
    from sdcore.models import read_header, read_weights

    stamp = stamp_of(path)
    files: dict[Path, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    metadata: dict[str, str] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    tensors: dict[str, Tensor] | None = None
    for component, file in _find(Path(path)):
        prefix = f"{component}." if component else ""
        files[file] = prefix
        if file.suffix == ".safetensors":
            header = read_header(file)
            shapes |= {prefix + key: shape for key, shape in header.shapes.items()}
            metadata |= header.metadata
        else:
            weights, _ = read_weights(file, allow_pickle)
            tensors = (tensors or {}) | {prefix + key: value for key, value in weights.items()}
            shapes |= {prefix + key: tuple(value.shape) for key, value in weights.items()}
        config = file.with_name("adapter_config.json")
        if config.is_file() and file.name.startswith("adapter_model"):
            settings[component] = _read_settings(config)
    return Opened(files, shapes, metadata, settings or settings_by_component(metadata), tensors, stamp)


def read_tensors(opened: Opened, what: str) -> dict[str, Tensor]:
    """All tensors of a LoRA by key, mapped into memory.

    Raises:
        ModelError: a file cannot be read, or a tensor holds NaN or infinity; the key is named.
    """
    from sdcore.models import check_finite, read_weights

    found: dict[str, Tensor] = dict(opened.tensors or {})
    for file, prefix in opened.files.items():
        if opened.tensors is None:
            found |= {prefix + key: value for key, value in read_weights(file, False)[0].items()}
    check_finite({key: value for key, value in found.items() if value.numel()}, what)
    return found


def _find(path: Path) -> list[tuple[str, Path]]:
    """(component, file) of everything that belongs to a LoRA; component "" if it is one file."""
    path = path.expanduser()
    if not path.exists():
        from sdcore.models import find_source

        path = find_source(str(path), "LoRA")
    if path.is_file():
        return [("", path)]
    found = _file_in(path)
    if found is not None:
        return [("", found)]
    inside = [(name, file) for name in COMPONENTS if (file := _file_in(path / name)) is not None]
    if not inside:
        raise ModelError(
            f"{path}: no LoRA in this folder (expected one of {', '.join(_NAMES[:2])}, or one .safetensors)"
        )
    return inside


def _file_in(folder: Path) -> Path | None:
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    alone = sorted(folder.glob("*.safetensors"))
    return alone[0] if len(alone) == 1 else None


def _read_settings(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); it says how strong the LoRA is, so copy it again"
        ) from error
    kind = str(found.get("peft_type", "LORA")).upper() if isinstance(found, dict) else "nothing"
    if kind not in ("LORA", "LOHA", "LOKR"):
        raise ModelError(f"{path}: peft_type is {kind}; sdcore-lora reads LORA, LOHA and LOKR")
    return dict(found)
