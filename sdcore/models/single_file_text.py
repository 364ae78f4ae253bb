"""The text encoders of single files, in the layouts of OpenAI's CLIP and of OpenCLIP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sdcore.errors import ModelError

from . import shapes, templates
from .build import build
from .place import Place
from .tokenizer import CLIP_VOCABULARY, clip_tokenizer


def read_text_encoder(
    weights: Mapping[str, Any], name: str, prefix: str, layout: str, family: str, place: Place, path: Path
) -> Any:
    """A text encoder from the tensors under a prefix.

    Args:
        weights: of the whole checkpoint.
        name: "text_encoder" or "text_encoder_2".
        prefix: of its keys.
        layout: "openai" or "openclip".
        family: of the checkpoint.
        place: device and type.
        path: of the checkpoint, for messages.

    Raises:
        ModelError: there is none, or it is not complete.
    """
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not own:
        raise ModelError(f"{path}: has no {name} ({prefix}*); give one with components={{{name!r}: folder}}")
    try:
        if layout == "openclip":
            own = _from_openclip(own, drop_last=family == "sd2")
        own = {key.removeprefix("text_model."): value for key, value in own.items()}
        config = shapes.text_config(shapes.shapes_of(own), layout)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: its {name} is not complete ({error} is missing)") from error
    kind = "CLIPTextModelWithProjection" if "text_projection.weight" in own else "CLIPTextModel"
    end = min(config["vocab_size"], CLIP_VOCABULARY) - 1  # what is beyond CLIP's vocabulary was added to it
    tokens = {"bos_token_id": end - 1, "eos_token_id": end}
    return build(kind, config | tokens, own, place, f"{path} ({name})")


def _from_openclip(own: dict[str, Any], drop_last: bool) -> dict[str, Any]:
    """OpenCLIP's text tower under the keys of transformers.

    SD2 reads the last but one layer, and drops the last layer and the projection.
    """
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    block = re.compile(r"transformer\.resblocks\.(\d+)\.")
    if drop_last:
        last = max(int(m[1]) for key in own if (m := block.match(key)))
        own = {
            k: v
            for k, v in own.items()
            if k != "text_projection" and not k.startswith(f"transformer.resblocks.{last}.")
        }
    width = int(own["token_embedding.weight"].shape[1])
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    converted: dict[str, Any] = convert_open_clip_checkpoint(model, own, prefix="")
    return converted


def make_tokenizer(encoder: Any, name: str, layout: str, path: Path) -> Any:
    """The tokenizer of a text encoder that came without one.

    Raises:
        ModelError: its vocabulary is not CLIP's.
    """
    size = int(encoder.config.vocab_size)
    if size < CLIP_VOCABULARY:
        tokenizer = name.replace("text_encoder", "tokenizer")
        raise ModelError(
            f"{path}: its {name} knows {size} tokens, not the {CLIP_VOCABULARY} of CLIP, and a single file has "
            f"no tokenizer; give one with components={{{tokenizer!r}: folder}}"
        )
    return clip_tokenizer(int(encoder.config.max_position_embeddings), templates.PAD_TOKEN[layout])
