"""Finding the weight files in a component's folder: whole, in shards, as a variant, or as a pickle."""

from __future__ import annotations

import json
from pathlib import Path

from sdcore.errors import ModelError


def find_weights(folder: Path, allow_pickle: bool) -> tuple[Path, ...]:
    """The weight files of a component's folder: one, or the shards that an index lists.

    The plain file comes first, then variants (fp16, then others), then pickles.

    Raises:
        ModelError: there is none, a shard is missing, or there are only pickles and those are not allowed.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        variants = sorted(folder.glob(f"{stem}.*.safetensors"), key=lambda path: ".fp16." not in path.name)
        indexes = sorted(folder.glob(f"{stem}.safetensors.index*.json"), key=lambda path: path.name.count(".fp16"))
        whole = folder / f"{stem}.safetensors"
        if whole.is_file():
            return (whole,)
        if indexes:
            return _shards(indexes[0])
        if variants:
            return (variants[0],)
    pickles = [folder / name for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin")]
    pickles = [path for path in pickles if path.is_file()]
    if pickles and not allow_pickle:
        raise ModelError(
            f"{folder}: its weights are a pickle ({pickles[0].name}), which can run code when it is read; "
            "use a copy with .safetensors, or, if you trust its source, pass allow_pickle=True"
        )
    if not pickles:
        raise ModelError(f"{folder}: no weights (expected a .safetensors file). Was the download complete?")
    return (pickles[0],)


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index}: not an index of shards ({error})") from error
    if any(Path(name).name != name for name in names):
        raise ModelError(f"{index}: names files outside its folder")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise ModelError(f"{index}: lists {missing[0] if missing else 'no file'!r}, which is not there")
    return tuple(index.parent / name for name in names)
