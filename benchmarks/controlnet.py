"""sdcore with ControlNets against the diffusers ControlNet pipeline on the same files: ratios, never times.

The bar is 0.95. It writes benchmarks/results/controlnet.json; see measuring.py for how it measures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import measuring
from overhead import small_sd15

PROMPT = "a red apple, photo of the house"
BAR = 0.95
SIZE, STEPS, GUIDANCE = 128, 8, 7.5


def small_controlnet(model: Path, folder: Path, seed: int) -> Path:
    """A ControlNet for the small SD1.5 shape, with the published condition embedding: 8 pixels to a latent."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    net: Any = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(model, subfolder="unet"))
    with torch.no_grad():
        for convolution in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
            torch.nn.init.normal_(convolution.weight, std=0.02)
        torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.02)
    net.save_pretrained(folder)
    return folder


def compare(model: Path, nets: list[Path], rounds: int, guess: bool = False) -> dict[str, Any]:
    """The ratio of sdcore to diffusers with these nets."""
    import torch
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
    from PIL import Image
    from sdcore_controlnet import ControlNet, ControlNetPlugin

    from sdcore import Engine

    loaded = [ControlNetModel.from_pretrained(net) for net in nets]
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        model, controlnet=loaded[0] if len(loaded) == 1 else loaded, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    engine = Engine.load(model, plugins=[ControlNetPlugin])
    image = Image.effect_noise((SIZE, SIZE), 80).convert("RGB")
    mode = "control" if guess else "balanced"
    use = [ControlNet(model=str(net), image=image, scale=0.8, mode=mode) for net in nets]

    def theirs(output: str) -> Any:
        return pipe(
            PROMPT, image=image if len(nets) == 1 else [image] * len(nets), height=SIZE, width=SIZE,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type=output, guess_mode=guess,
            controlnet_conditioning_scale=0.8 if len(nets) == 1 else [0.8] * len(nets),
            generator=[torch.Generator().manual_seed(1)],
        ).images  # fmt: skip

    def ours(output: str) -> Any:
        result = engine.generate(
            PROMPT, height=SIZE, width=SIZE, steps=STEPS, guidance_scale=GUIDANCE, seed=1, use=use,
            output="latent" if output == "latent" else "image",
        )  # fmt: skip
        return result.latents

    return {"nets": len(nets), "mode": mode, **measuring.ratio_of(ours, theirs, rounds, BAR)}


def measure(rounds: int) -> dict[str, Any]:
    """All cases."""
    with tempfile.TemporaryDirectory() as scratch:
        model = small_sd15(Path(scratch) / "model")
        nets = [small_controlnet(model, Path(scratch) / f"net{seed}", seed) for seed in (1, 2)]
        return {
            "one ControlNet": compare(model, nets[:1], rounds),
            "two ControlNets": compare(model, nets, rounds),
            "one ControlNet, guess mode": compare(model, nets[:1], rounds, guess=True),
        }


if __name__ == "__main__":
    measuring.main("controlnet", __doc__, BAR, measure)
