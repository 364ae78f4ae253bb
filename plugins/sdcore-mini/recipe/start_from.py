"""A model to go on training from: the previous release with a new codec and a new tokenizer.

    python start_from.py --previous MODEL_FOLDER --vae VAE_FOLDER --tokenizer FOLDER --data FOLDER --out FOLDER

* The codec's channels are brought to a common size, by an exact change of its first and last layers.
* The U-Net keeps its weights; what it must read and write for new latent channels begins at nothing.
* The text encoder keeps its weights; a token of the new tokenizer that the old one does not have begins as the mean
  of the tokens that the old one makes of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from build_model import DEFAULTS, SCHEDULER
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

NEW_SIZE = 0.75
"""Standard deviation of new channels beside the old ones': they carry details, which may come late."""
MEASURED = 512


def pictures(folder: Path, count: int) -> Tensor:
    """(n, 3, h, w) in [-1, 1]: evenly spread over the data set."""
    import numpy as np

    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = rows[:: max(1, len(rows) // count)][:count]
    arrays = [np.asarray(Image.open(folder / row["file_name"]).convert("RGB")) for row in chosen]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def scale_channels(vae: Any, factors: Tensor) -> None:
    """Multiply each latent channel by a factor, so that pictures go through the codec as before."""
    both = torch.cat([factors, torch.ones_like(factors)])
    shift = torch.cat([torch.zeros_like(factors), 2 * factors.log()])
    vae.quant_conv.weight.data.mul_(both.view(-1, 1, 1, 1))
    vae.quant_conv.bias.data.mul_(both).add_(shift)
    vae.post_quant_conv.weight.data.div_(factors.view(1, -1, 1, 1))


@torch.no_grad()
def fit_codec(vae: Any, data: Tensor, old_channels: int) -> None:
    """Give all channels their size, and the configuration the scaling factor."""
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in data.split(32)])
    deviations = latents.transpose(0, 1).flatten(1).std(1)
    wanted = torch.full_like(deviations, NEW_SIZE)
    wanted[:old_channels] = 1.0
    before = vae.decode(latents[:4]).sample
    factors = wanted / deviations
    scale_channels(vae, factors)
    vae.register_to_config(scaling_factor=1.0)
    after = vae.decode(latents[:4] * factors.view(1, -1, 1, 1)).sample
    print(f"channels had {deviations.tolist()}; decoding changed by {(after - before).abs().max():.2e}")


@torch.no_grad()
def widen_unet(old: Any, channels: int) -> Any:
    """The U-Net with more channels in and out; it gives for the old ones what it gave."""
    config = {k: v for k, v in old.config.items() if not k.startswith("_")}
    new = UNet2DConditionModel.from_config({**config, "in_channels": channels, "out_channels": channels})
    made = new.state_dict()
    for key, value in old.state_dict().items():
        if made[key].shape == value.shape:
            made[key] = value
        else:
            made[key] = torch.zeros_like(made[key])
            made[key][tuple(slice(0, size) for size in value.shape)] = value
    new.load_state_dict(made)
    return new


@torch.no_grad()
def new_vocabulary(old: Any, old_tokens: Any, tokens: Any) -> Any:
    """The text encoder for another tokenizer."""
    table = old.get_input_embeddings().weight
    rows = []
    known = old_tokens.get_vocab()
    ends = {tokens.bos_token_id: old_tokens.bos_token_id, tokens.eos_token_id: old_tokens.eos_token_id}
    shared = 0
    for token, number in sorted(tokens.get_vocab().items(), key=lambda item: item[1]):
        if number in ends:
            rows.append(table[ends[number]])
        elif token in known:
            rows.append(table[known[token]])
            shared += 1
        else:
            pieces = old_tokens(tokens.decode([number]), add_special_tokens=False).input_ids
            rows.append(table[pieces].mean(0) if pieces else table.mean(0))
    config = old.config
    config.vocab_size = len(rows)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = (
        tokens.bos_token_id,
        tokens.eos_token_id,
        tokens.pad_token_id,
    )
    new = CLIPTextModel(config)
    weights = {key: value for key, value in old.state_dict().items() if "token_embedding" not in key}
    new.load_state_dict(weights, strict=False)
    new.get_input_embeddings().weight.data.copy_(torch.stack(rows))
    print(f"{shared} of {len(rows)} tokens are known")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("previous", "vae", "tokenizer", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.out.exists():
        parser.error(f"{args.out} exists: choose another folder, or remove it")
    single: dict[str, Any] = {"torch_dtype": torch.float32}
    unet = UNet2DConditionModel.from_pretrained(args.previous / "unet", **single)
    vae = AutoencoderKL.from_pretrained(args.vae, **single)
    fit_codec(vae, pictures(args.data, MEASURED), unet.config.in_channels)
    old_tokens = CLIPTokenizer.from_pretrained(args.previous / "tokenizer")
    tokens = CLIPTokenizer.from_pretrained(args.tokenizer)
    encoder = CLIPTextModel.from_pretrained(args.previous / "text_encoder", dtype=torch.float32)
    widen_unet(unet, vae.config.latent_channels).save_pretrained(args.out / "unet")
    new_vocabulary(encoder, old_tokens, tokens).save_pretrained(args.out / "text_encoder")
    vae.save_pretrained(args.out / "vae")
    shutil.copytree(args.tokenizer, args.out / "tokenizer")
    shutil.copy(args.previous / "model_index.json", args.out / "model_index.json")
    (args.out / "scheduler").mkdir()
    for name, value in (
        ("scheduler/scheduler_config.json", SCHEDULER),
        ("sdcore.json", {"defaults": DEFAULTS}),
    ):
        (args.out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
