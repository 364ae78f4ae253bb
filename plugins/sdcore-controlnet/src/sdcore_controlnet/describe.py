"""What a control net is: recognised from a folder's config.json or a file's header, before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sdcore import ModelError
from sdcore.models import find_weights, read_header, read_weights
from sdcore.models.identify import looks_like

from . import layouts, shapes

Kind = Literal["ControlNet", "T2I-Adapter"]
CLASSES: Mapping[str, Kind] = {"ControlNetModel": "ControlNet", "T2IAdapter": "T2I-Adapter"}
EXPECTED = "expected a ControlNet or a T2I-Adapter for Stable Diffusion 1.x, 2.x or XL"
_RELATIVES = {
    "ControlNetUnionModel": "a ControlNet-Union",
    "ControlNetXSAdapter": "a ControlNet-XS",
    "UNetControlNetXSModel": "a ControlNet-XS",
    "SparseControlNetModel": "a SparseCtrl net (AnimateDiff)",
    "MultiControlNetModel": "several ControlNets in one",
}
_TELLS: tuple[tuple[str, str], ...] = (
    (r"^lllite_", "a ControlNet-LLLite"),
    (r"^lora_controlnet$|^(control_model\.)?input_blocks\.\d+\..*\.(up|down)$", "a Control-LoRA"),
    (r"^(task_embedding|transformer_layes\.|control_add_embedding\.|spatial_ch_projs\.)", "a ControlNet-Union"),
    (r"(base_to_ctrl|ctrl_to_base|enc_zero_convs_(in|out)|dec_zero_convs_out|mid_zero_convs)", "a ControlNet-XS"),
    (r"^difference$", "the difference of a ControlNet to its model"),
    (r"^(controlnet_blocks\.|double_blocks\.|transformer_blocks\.|pos_embed_input\.)", "a ControlNet for SD3 or Flux"),
)


@dataclass(frozen=True)
class Description:
    """A control net, not yet loaded.

    Attributes:
        kind: "ControlNet" or "T2I-Adapter".
        config: of its diffusers class.
        what: how messages name it.
        files: its weight files; empty for a module in memory.
        names: names of tensors in the file to those of diffusers; None if they are the same.
        module: the module in memory, or None.
    """

    kind: Kind
    config: Mapping[str, Any]
    what: str
    files: tuple[Path, ...] = ()
    names: Mapping[str, str] | None = None
    module: Any = None


def describe(source: Any, unet: Mapping[str, Any], factor: int, allow_pickle: bool = False) -> Description:
    """Recognise a control net.

    Args:
        source: a folder or a file that is there, or a module.
        unet: configuration of the U-Net that it is to be used with; fills in what a single file does not say.
        factor: pixels to a latent of the model.
        allow_pickle: whether pickles may be read.

    Raises:
        ModelError: it is something else, or damaged; the message says what.
    """
    if not isinstance(source, Path):
        return _module(source)
    return _folder(source, allow_pickle) if source.is_dir() else _file(source, unet, factor, allow_pickle)


def _module(module: Any) -> Description:
    classes = {base.__name__ for base in type(module).__mro__}
    for name, kind in CLASSES.items():
        if name in classes:
            return Description(kind, dict(module.config), f"the {type(module).__name__} given", module=module)
    raise _not_usable(f"the {type(module).__name__} given", _RELATIVES.get(type(module).__name__, "another network"))


def _folder(folder: Path, allow_pickle: bool) -> Description:
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if (folder / "model_index.json").is_file():
            raise ModelError(f"{folder}: the folder of a whole model; {EXPECTED}") from None
        problem = f"{path}: cannot be read ({error.strerror}); a folder needs it, with the weights beside it"
        raise ModelError(problem) from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); was the download complete?") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected an object in braces, not {type(config).__name__}")
    name = str(config.get("_class_name", ""))
    if not name:
        name = "T2IAdapter" if "adapter_type" in config else ""
        name = "ControlNetModel" if "controlnet_conditioning_channel_order" in config else name
    if name not in CLASSES:
        raise _not_usable(str(folder), _RELATIVES.get(name, f"the folder of a {name}" if name else "something else"))
    files = find_weights(folder, allow_pickle)
    for file in files:
        if file.suffix == ".safetensors":
            read_header(file)  # truncated files are told now
    return Description(CLASSES[name], config, str(folder), files)


def _file(path: Path, unet: Mapping[str, Any], factor: int, allow_pickle: bool) -> Description:
    if path.suffix.lower() == ".safetensors":
        by_key: Mapping[str, tuple[int, ...]] = read_header(path).shapes
    else:
        by_key = shapes_of(read_weights(path, allow_pickle)[0])
    for pattern, words in _TELLS:
        tell = re.compile(pattern)
        if any(tell.search(key) for key in by_key):
            raise _not_usable(str(path), words)
    names: dict[str, str] | None = None
    try:
        if "controlnet_cond_embedding.conv_in.weight" in by_key:
            return Description("ControlNet", shapes.controlnet_config(by_key, unet), str(path), (path,))
        if any("input_hint_block." in key for key in by_key):
            names = layouts.original_controlnet_keys(by_key)
            config = shapes.controlnet_config(layouts.rename(by_key, names), unet)
            return Description("ControlNet", config, str(path), (path,), names)
        if any(key.startswith("adapter.body.") for key in by_key):
            return Description("T2I-Adapter", shapes.adapter_config(by_key, factor), str(path), (path,))
        if "body.0.in_conv.weight" in by_key or {"conv_in.weight", "body.0.block1.weight"} <= by_key.keys():
            names = layouts.original_adapter_keys(by_key)
            config = shapes.adapter_config(layouts.rename(by_key, names), factor)
            return Description("T2I-Adapter", config, str(path), (path,), names)
    except (KeyError, StopIteration, IndexError, ValueError) as error:
        raise ModelError(
            f"{path}: a control net that is not complete, or of a layout that is not known ({error})"
        ) from None
    raise _not_usable(str(path), looks_like(by_key))


def shapes_of(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by key."""
    return {key: tuple(tensor.shape) for key, tensor in weights.items()}


def _not_usable(what: str, words: str) -> ModelError:
    return ModelError(f"{what}: it is {words}, which this plugin does not run; {EXPECTED}")
