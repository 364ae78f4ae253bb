"""Names of modules: from the spellings of files to those of diffusers, and back to blocks. Text only."""

from __future__ import annotations

import re

# Every word that the names of modules are made of, in both spellings. kohya's files join all of them with "_".
_WORDS = (
    *("down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "transformer_blocks", "downsamplers"),
    *("upsamplers", "attn1", "attn2", "to_q", "to_k", "to_v", "to_out", "ff", "net", "proj", "proj_in", "proj_out"),
    *("norm", "norm1", "norm2", "norm3", "conv", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_in"),
    *("conv_out", "conv_norm_out", "time_embedding", "add_embedding", "linear_1", "linear_2", "group_norm"),
    *("input_blocks", "output_blocks", "middle_block", "in_layers", "out_layers", "emb_layers", "skip_connection"),
    *("op", "time_embed", "label_emb", "out"),
    *("text_model", "encoder", "layers", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "mlp", "fc1", "fc2"),
    *("layer_norm1", "layer_norm2", "final_layer_norm", "text_projection", "embeddings", "token_embedding"),
    "position_embedding",
)
_WORD = re.compile("|".join([*sorted(_WORDS, key=len, reverse=True), r"\d+"]))

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTSIDE = {
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def dotted(name: str) -> str | None:
    """``"down_blocks_0_resnets_0_conv1"`` as ``"down_blocks.0.resnets.0.conv1"``; None if it is no such name."""
    parts, at = [], 0
    while at < len(name):
        found = _WORD.match(name, at)
        if found is None or name[found.end() : found.end() + 1] not in ("", "_", "."):
            return None
        parts.append(found[0])
        at = found.end() + 1
    return ".".join(parts)


def module_name(name: str, layers: int = 2) -> str | None:
    """The name that diffusers and transformers give to a module.

    Args:
        name: in any spelling, joined with dots or underscores, without the prefix of its component.
        layers: ``layers_per_block`` of the U-Net: where the blocks of the original layout begin depends on it.

    Returns:
        The name, without the "text_model." of some text encoders; None if it is no name of a module.
    """
    name = name.replace(".processor", "").removesuffix("_lora")
    found = dotted(name)
    if found is None:
        return None
    if found.startswith(("input_blocks.", "output_blocks.", "middle_block.", "out.", "time_embed.", "label_emb.")):
        return from_original(found, layers)
    found = found.removeprefix("text_model.")
    head, _, last = found.rpartition(".")
    if head.endswith("self_attn"):  # early diffusers called these as in the U-Net
        return f"{head}.{_OLD_TEXT.get(last, last)}"
    return found + ".0" if last == "to_out" else found


def from_original(name: str, layers: int) -> str | None:
    """A name in the layout of CompVis and Stability AI (``input_blocks.4.1...``) as diffusers has it, or None."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    place = re.match(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)|(middle_block)\.(\d+)\.(.+)", name)
    if place is None:
        return None
    if place[5]:
        return f"mid_block.{_MIDDLE[place[6]]}.{_inside(place[7])}" if place[6] in _MIDDLE else None
    down, rest = place[1] == "input_blocks", place[4]
    block, layer = divmod(int(place[2]) - down, layers + 1)
    side = "down_blocks" if down else "up_blocks"
    if rest in ("op", "conv"):
        return f"{side}.{block}.{'downsamplers' if down else 'upsamplers'}.0.conv"
    return f"{side}.{block}.{'resnets' if place[3] == '0' else 'attentions'}.{layer}.{_inside(rest)}"


def _inside(rest: str) -> str:
    return _RESNET.get(rest, rest)


def original_block(name: str, layers: int = 2) -> str:
    """The block of the original layout that a module of the U-Net is in: "IN04", "M00", "OUT11"; "" for none."""
    if name == "conv_in":
        return "IN00"
    if name.startswith("mid_block."):
        return "M00"
    place = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", name)
    if place is None:
        return ""
    layer = layers if place[3] == "downsamplers" else layers if place[3] == "upsamplers" else int(place[4])
    number = int(place[2]) * (layers + 1) + layer + (place[1] == "down")
    return f"{'IN' if place[1] == 'down' else 'OUT'}{number:02d}"


def is_text(name: str) -> bool:
    """Whether a module name of diffusers and transformers is one of a text encoder."""
    return name.startswith(("encoder.", "embeddings.", "text_projection", "final_layer_norm"))
