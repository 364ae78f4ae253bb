"""A model whose U-Net reads a new text encoder: that of an earlier model, through a linear map.

    python read_through.py --previous MODEL_FOLDER --text MODEL_FOLDER --data FOLDER --out FOLDER

The map from the new states to the old ones is fitted on captions and multiplied into the keys and values of the U-Net's
cross-attention, so that training goes on from what it draws instead of from nothing.
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
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

CAPTIONS = 6000
RIDGE = 1e-3


@torch.no_grad()
def states(encoders: Sequence[Any], tokenizer: Any, captions: Sequence[str], seed: int) -> list[Tensor]:
    """(places, width) of each encoder, at the same places."""
    draw = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[] for _ in encoders]
    for start in range(0, len(captions), 250):
        part = list(captions[start : start + 250])
        ids = tokenizer(part, padding="max_length", truncation=True, return_tensors="pt").input_ids
        last = ids.shape[1] - 1
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        anywhere = torch.randint(0, ids.shape[1], end.shape, generator=draw)
        places = torch.stack([end, (end + 1).clamp_max(last), torch.full_like(end, last), anywhere], 1)
        for encoder, parts in zip(encoders, found, strict=True):
            whole = encoder(input_ids=ids).last_hidden_state
            parts.append(whole.gather(1, places[..., None].expand(-1, -1, whole.shape[2])).flatten(0, 1))
    return [torch.cat(parts) for parts in found]


def linear_map(new: Tensor, old: Tensor) -> tuple[Tensor, float]:
    """The matrix A with new @ A close to old, and the share of old's variance that it explains."""
    square = new.T @ new + RIDGE * len(new) * new.square().mean() * torch.eye(new.shape[1])
    found = torch.linalg.solve(square.double(), (new.T @ old).double()).float()
    return found, 1 - float((old - new @ found).square().mean() / old.var(0).mean())


@torch.no_grad()
def reading_through(unet: Any, matrix: Tensor) -> Any:
    """The U-Net with the map in its cross-attention."""
    config = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    made = UNet2DConditionModel.from_config({**config, "cross_attention_dim": matrix.shape[0]})
    weights = unet.state_dict()
    for name, value in weights.items():
        if ".attn2.to_k." in name or ".attn2.to_v." in name:
            weights[name] = value @ matrix.T
    made.load_state_dict(weights)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("previous", "text", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.out.exists():
        parser.error(f"{args.out} exists: choose another folder, or remove it")
    for flag, file in (
        ("--previous", args.previous / "text_encoder" / "config.json"),
        ("--previous", args.previous / "unet" / "config.json"),
        ("--text", args.text / "text_encoder" / "config.json"),
        ("--text", args.text / "tokenizer" / "tokenizer_config.json"),
        ("--data", args.data / "metadata.jsonl"),
    ):
        if not file.is_file():
            parser.error(f"{flag}: there is no {file}")
    lines = (args.data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    draw = torch.randperm(len(lines), generator=torch.Generator().manual_seed(args.seed))
    captions = [json.loads(lines[number])["captions"][0] for number in draw[:CAPTIONS].tolist()]
    single: dict[str, Any] = {"torch_dtype": torch.float32}
    new, old = (
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        for folder in (args.text, args.previous)
    )
    tokenizer = CLIPTokenizer.from_pretrained(args.text / "tokenizer")
    matrix, explained = linear_map(*states((new, old), tokenizer, captions, args.seed))
    print(f"the map explains {explained:.1%} of the old states")
    unet = UNet2DConditionModel.from_pretrained(args.previous / "unet", **single)
    beside = args.out.with_name(args.out.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(args.text, beside, ignore=shutil.ignore_patterns("unet"))
    reading_through(unet, matrix).save_pretrained(beside / "unet")
    beside.rename(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
