"""Keys of LoRA files: which component, which module and which part of its change a key means. Text only."""

from __future__ import annotations

import re
from dataclasses import dataclass

# How keys end, and the part that it is. One table for all layouts: no two of them mean different things by one ending.
_ENDINGS: tuple[tuple[str, str], ...] = (
    (r"\.lora_down\.weight", "down"),
    (r"\.lora_up\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"(?:\.lora|_lora|\.lora_linear_layer)\.down\.weight", "down"),
    (r"(?:\.lora|_lora|\.lora_linear_layer)\.up\.weight", "up"),
    (r"\.lora_A(?:\.\w+)??\.weight", "down"),
    (r"\.lora_B(?:\.\w+)??\.weight", "up"),
    (r"\.lora_A", "down"),
    (r"\.lora_B", "up"),
    (r"\.lora_B(?:\.\w+)??\.bias", "up_bias"),
    (r"\.lora_embedding_A(?:\.\w+)?", "embedding_down"),
    (r"\.lora_embedding_B(?:\.\w+)?", "embedding_up"),
    (r"(?:\.lora|_lora)?\.alpha", "alpha"),
    (r"\.dora_scale", "dora"),
    (r"(?:_lora)?\.lora_magnitude_vector(?:\.\w+)*", "dora"),
    (r"\.(hada_w[12]_[ab]|hada_t[12])(?:\.\w+)?", ""),
    (r"\.(lokr_w[12](?:_[ab])?|lokr_t2)(?:\.\w+)?", ""),
    (r"\.(diff|diff_b|w_norm|b_norm|scalar)", ""),
)
_ENDING = [(re.compile(f"(?P<name>.+?){pattern}$"), part) for pattern, part in _ENDINGS]

# How keys begin, and the component. "bare": the name of the module tells.
_BEGINNINGS: tuple[tuple[str, str], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("conditioner.embedders.0.transformer.", "text_encoder"),
    ("cond_stage_model.transformer.", "text_encoder"),
    ("base_model.model.", "bare"),
)
LAYOUTS = {"lora_": "kohya", "base_model.": "peft", "model.": "original", "diffusion_model.": "original"}


@dataclass(frozen=True)
class Key:
    """What a key means.

    Attributes:
        component: "unet", "text_encoder" or "text_encoder_2"; "bare" where the name of the module must tell.
        name: of the module, as the file spells it, without prefix.
        part: of the change, such as "down" or "hada_w1_a".
        layout: "kohya", "diffusers", "peft" or "original".
        doubled: whether a prefix came twice.
    """

    component: str
    name: str
    part: str
    layout: str
    doubled: bool


def read_key(key: str) -> Key | None:
    """What a key means, or None if it has no known ending."""
    for ending, part in _ENDING:
        found = ending.match(key)
        if found is None:
            continue
        name, seen, doubled = found["name"], "bare", False
        layout = next((words for start, words in LAYOUTS.items() if key.startswith(start)), "diffusers")
        again, last = True, ""
        while again:
            again = False
            for beginning, component in _BEGINNINGS:
                if name.startswith(beginning) and len(name) > len(beginning):
                    name, again = name[len(beginning) :], True
                    doubled = doubled or beginning == last
                    last = beginning if component != "bare" else last
                    layout = "peft" if component == "bare" else layout
                    seen = component if component != "bare" else seen
                    break
        return Key(seen, name, part or found[2], layout, doubled)
    return None
