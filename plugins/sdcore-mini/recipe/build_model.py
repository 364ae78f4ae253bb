"""A model of the embedded model's shape: what a training starts from.

    python build_model.py --preset cpu --tokenizer FOLDER --out FOLDER [--vae FOLDER]
    python build_model.py --preset gpu --like MODEL_FOLDER --out FOLDER

Weights are random, from the seed: the training of the VAE starts from those. `--vae` takes a trained VAE instead, from
which the training of the rest starts; `--like` all of another model, whose pictures may have another size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # 64x64 pixels, 8x8 latents of 8 channels: four channels reach 23 dB, eight 26.
    "cpu": {
        "size": 64,
        "latent_channels": 8,
        "vae": (24, 48, 96, 128),
        "unet": (128, 256),
        "heads": 4,
        "layers": 1,
        "text": {"width": 256, "layers": 2, "heads": 4, "units": 4608},
    },
}
# 128x128 pixels, 16x16 latents: the same networks, which go on from what they learnt of smaller pictures.
PRESETS["gpu"] = {**PRESETS["cpu"], "size": 128}
WINDOW = 32
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
DEFAULTS = {"steps": 25, "guidance_scale": 1.75, "scheduler": "ddim"}


def build(preset: str, tokenizer: Path, out: Path, seed: int, vae: Path | None) -> None:
    """Write the folder, whole or not at all.

    Raises:
        ValueError: the trained VAE's latents have not the channels of the preset.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    shape = PRESETS[preset]
    channels = shape["latent_channels"]
    if vae:
        found = json.loads((vae / "config.json").read_text(encoding="utf-8")).get("latent_channels")
        if found != channels:
            raise ValueError(f"{vae} has {found} latent channels, the preset {preset} {channels}")
    words = CLIPTokenizer.from_pretrained(tokenizer)
    text = shape["text"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=text["width"],
                intermediate_size=text["units"],
                num_hidden_layers=text["layers"],
                num_attention_heads=text["heads"],
                projection_dim=text["width"],
                max_position_embeddings=WINDOW,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        levels = len(shape["vae"])
        codec = (
            AutoencoderKL.from_pretrained(vae)
            if vae
            else AutoencoderKL(
                block_out_channels=shape["vae"],
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                latent_channels=channels,
                norm_num_groups=8,
                sample_size=shape["size"],
            )
        )
        widths = shape["unet"]
        unet = UNet2DConditionModel(
            sample_size=shape["size"] // 8,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=shape["layers"],
            down_block_types=("CrossAttnDownBlock2D",) * len(widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(widths),
            cross_attention_dim=text["width"],
            attention_head_dim=shape["heads"],
        )
    beside = out.with_name(out.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    for name, module in (("text_encoder", encoder), ("vae", codec), ("unet", unet)):
        module.save_pretrained(beside / name)
    shutil.copytree(tokenizer, beside / "tokenizer")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": version("diffusers"),
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    (beside / "scheduler").mkdir()
    for name, value in (
        ("model_index.json", index),
        ("scheduler/scheduler_config.json", SCHEDULER),
        ("sdcore.json", {"defaults": DEFAULTS}),
    ):
        (beside / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    beside.rename(out)


def resized(preset: str, model: Path, out: Path) -> None:
    """Write a copy of a model that draws pictures of the preset's size.

    Raises:
        ValueError: its U-Net has not the preset's shape.
    """
    size, beside = PRESETS[preset]["size"], out.with_name(out.name + ".tmp")
    widths = json.loads((model / "unet" / "config.json").read_text(encoding="utf-8"))["block_out_channels"]
    if tuple(widths) != PRESETS[preset]["unet"]:
        raise ValueError(
            f"{model} has a U-Net of widths {widths}, the preset {preset} one of {PRESETS[preset]['unet']}"
        )
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(model, beside, ignore=shutil.ignore_patterns("__pycache__"))
    for part, side in (("unet", size // 8), ("vae", size)):
        file = beside / part / "config.json"
        config = {**json.loads(file.read_text(encoding="utf-8")), "sample_size": side}
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    beside.rename(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokenizer", type=Path, help="of a new model")
    source.add_argument("--like", type=Path, metavar="MODEL_FOLDER", help="take everything from this model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vae", type=Path, help="folder of a trained VAE")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.out.exists():
        parser.error(f"{args.out} exists: choose another folder, or remove it")
    if args.like and args.vae:
        parser.error("--vae goes with --tokenizer: --like takes the VAE of its model too")
    for flag, file in (
        ("--tokenizer", args.tokenizer and args.tokenizer / "tokenizer_config.json"),
        ("--vae", args.vae and args.vae / "config.json"),
        ("--like", args.like and args.like / "model_index.json"),
    ):
        if file and not file.is_file():
            parser.error(f"{flag}: there is no {file}")
    try:
        if args.like:
            resized(args.preset, args.like, args.out)
        else:
            build(args.preset, args.tokenizer, args.out, args.seed, args.vae)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
