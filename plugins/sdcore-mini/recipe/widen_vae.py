"""A VAE with more latent channels than the one it is made of, which it equals at first.

    python widen_vae.py VAE_FOLDER OUT_FOLDER --channels 8

The old channels keep their weights. Each new one begins with a random projection of the encoder's last features that
the decoder hardly listens to, so that training finds both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

NARROW = -4.0
"""Log-variance that new channels begin with: their noise must not drown what they will carry."""


def widen(vae_folder: Path, out: Path, channels: int, seed: int) -> None:
    """Write the folder."""
    import torch
    from diffusers import AutoencoderKL

    old = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32)
    before = old.config.latent_channels
    if channels <= before:
        raise SystemExit(f"{vae_folder} has {before} latent channels; --channels must be more")
    config = {**{k: v for k, v in old.config.items() if not k.startswith("_")}, "latent_channels": channels}
    new = AutoencoderKL.from_config(config)
    weights = old.state_dict()
    generator = torch.Generator().manual_seed(seed)

    def small(shape: torch.Size, gain: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * gain

    made = new.state_dict()
    where = {
        "mean": (slice(0, before), slice(0, before)),
        "variance": (slice(before, None), slice(channels, channels + before)),
    }
    for key, value in made.items():
        if value.shape == weights[key].shape:
            made[key] = weights[key]
            continue
        fresh = torch.zeros_like(value)
        source = weights[key]
        if key.startswith("encoder.conv_out"):
            for inside, outside in where.values():
                fresh[outside] = source[inside]
            if key.endswith("weight"):
                fan_in = value[0].numel()
                fresh[before:channels] = small(fresh[before:channels].shape, fan_in**-0.5)
        elif key == "quant_conv.weight":
            for inside, outside in where.values():
                for inside2, outside2 in where.values():
                    fresh[outside, outside2] = source[inside, inside2]
            for channel in range(before, channels):
                fresh[channel, channel] = 1.0
        elif key == "quant_conv.bias":
            for inside, outside in where.values():
                fresh[outside] = source[inside]
            fresh[channels + before :] = NARROW
        elif key == "post_quant_conv.weight":
            fresh[:before, :before] = source
            for channel in range(before, channels):
                fresh[channel, channel] = 1.0
        elif key == "post_quant_conv.bias":
            fresh[:before] = source
        elif key == "decoder.conv_in.weight":
            fresh[:, :before] = source
            fresh[:, before:] = small(fresh[:, before:].shape, 0.02)
        else:
            raise SystemExit(f"{key} has another shape than expected")
        made[key] = fresh
    new.load_state_dict(made)
    new.save_pretrained(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("vae", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    widen(args.vae, args.out, args.channels, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
