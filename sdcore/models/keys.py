"""Keys of weights as files have them, and as the classes of today have them. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys that old files carry and that no model reads any more, or that belong to CLIP's other half.
_IGNORED = ("position_ids", "logit_scale")
_IGNORED_PREFIXES = ("vision_model.", "visual_projection.", "loss.")
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def rename(kind: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights under the keys of today's classes, without those that nothing reads.

    Since transformers 5.6 the layers of `CLIPTextModel` have no "text_model." before them, while those of
    `CLIPTextModelWithProjection` do; files have it in either case.
    """
    renamed: dict[str, Any] = {}
    for key, tensor in weights.items():
        if key.rpartition(".")[2] in _IGNORED or key.startswith(_IGNORED_PREFIXES):
            continue
        if kind.startswith("CLIP"):
            key = key.removeprefix("text_model.")
            if key == "text_projection.weight":
                if kind == "CLIPTextModel":
                    continue
            elif kind == "CLIPTextModelWithProjection":
                key = "text_model." + key
        elif kind == "AutoencoderKL" and ".attentions." in key:
            path, _, last = key.rpartition(".")
            path, _, layer = path.rpartition(".")
            key = f"{path}.{_OLD_ATTENTION.get(layer, layer)}.{last}"
        renamed[key] = tensor
    return renamed
