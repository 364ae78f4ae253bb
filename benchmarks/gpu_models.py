"""What benchmarks/gpu.py measures with: a device, and pipelines of published shapes with random weights, made there."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
NO_HASH = "0" * 64


@dataclass
class Bench:
    """Where and how often is measured, and what the cases share."""

    device: str
    quick: bool
    rounds: int
    budget: float
    scratch: Path
    pipes: dict[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> Any:
        import torch

        return torch.float16 if self.cuda else torch.float32

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def over(self) -> bool:
        return time.perf_counter() - BEGAN > self.budget

    def wait(self) -> None:
        if self.cuda:
            import torch

            torch.cuda.synchronize()

    def allocated(self) -> int:
        if not self.cuda:
            return 0
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())

    def peak(self) -> int:
        if not self.cuda:
            return 0
        import torch

        return int(torch.cuda.max_memory_allocated())

    def free(self) -> None:
        gc.collect()
        if self.cuda:
            import torch

            torch.cuda.empty_cache()

    def timed(self, work: Callable[[], object]) -> float:
        """Wall seconds of one call, the device idle before and after."""
        gc.collect()
        gc.disable()
        try:
            self.wait()
            begin = time.perf_counter()
            work()
            self.wait()
            return time.perf_counter() - begin
        finally:
            gc.enable()


def sd15(bench: Bench) -> Any:
    """A pipeline of SD1.5's shape, made once."""
    if "sd15" not in bench.pipes:
        from diffusers import StableDiffusionPipeline

        narrow: dict[str, Any] = {
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
            "block_out_channels": (32, 64),
        }
        unet: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
        unet |= narrow | {"cross_attention_dim": 64} if bench.quick else {}
        tokenizer = tokenizer_of("<|endoftext|>")
        with making(bench):
            parts = {
                "unet": unet_of(bench, unet),
                "vae": vae_of(bench, 512, 0.18215),
                "text_encoder": text_of(bench, tokenizer, 768, 12, "quick_gelu"),
            }
        pipe = StableDiffusionPipeline(
            **parts, tokenizer=tokenizer, scheduler=ddim(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        bench.pipes["sd15"] = pipe
    return bench.pipes["sd15"]


def sdxl(bench: Bench) -> Any:
    """A pipeline of the shape of SDXL base."""
    from diffusers import StableDiffusionXLPipeline

    unet: dict[str, Any] = {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    }
    if bench.quick:
        unet |= {
            "block_out_channels": (32, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
            "cross_attention_dim": 64 + 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64 + 6 * 8,
        }
    first, second = tokenizer_of("<|endoftext|>"), tokenizer_of("!")
    with making(bench):
        parts = {
            "unet": unet_of(bench, unet),
            "vae": vae_of(bench, 1024, 0.13025),
            "text_encoder": text_of(bench, first, 768, 12, "quick_gelu"),
            "text_encoder_2": text_of(bench, second, 1280, 32, "gelu", projected=True),
        }
    pipe = StableDiffusionXLPipeline(
        **parts, tokenizer=first, tokenizer_2=second, scheduler=ddim(), add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextlib.contextmanager
def making(bench: Bench) -> Iterator[None]:
    """Inside, modules are made on the device, from one seed."""
    import torch

    torch.manual_seed(0)
    with torch.device(bench.device):
        yield


def unet_of(bench: Bench, config: dict[str, Any]) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    unet: Any = finished(bench, UNet2DConditionModel(**config))
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.1)  # guidance multiplies what has nothing to do with the latent
    return unet


def vae_of(bench: Bench, size: int, scaling: float) -> Any:
    """The codec of SD1.5 and SDXL. Both have ``force_upcast``: SDXL's file says so, SD1.5's leaves it to the class."""
    from diffusers import AutoencoderKL

    return finished(
        bench,
        AutoencoderKL(
            block_out_channels=(32,) * 4 if bench.quick else (128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1 if bench.quick else 2,
            latent_channels=4,
            sample_size=size,
            scaling_factor=scaling,
        ),
    )


def text_of(bench: Bench, tokenizer: Any, width: int, layers: int, act: str, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    if bench.quick:
        width, layers = 64, 2
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=77, hidden_act=act, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return finished(bench, (CLIPTextModelWithProjection if projected else CLIPTextModel)(config))


def tokenizer_of(pad: str) -> Any:
    from sdcore.models.tokenizer import clip_tokenizer

    return clip_tokenizer(77, pad)


def ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def finished(bench: Bench, module: Any) -> Any:
    """Random weights that keep the size of a signal (matrices by their fan-in), so that half precision holds them."""
    import torch

    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.5 if "embedding.weight" in name else weight.shape[1:].numel() ** -0.5)
            elif name.endswith("weight"):
                weight.uniform_(0.8, 1.2)
            else:
                weight.normal_(std=0.1)
    return module.to(device=bench.device, dtype=bench.dtype).eval().requires_grad_(False)


def model_of(pipe: Any) -> Any:
    """The components of a pipeline as sdcore's model, treated as one from files: hashed before, texts remembered."""
    from sdcore.models import from_pipeline

    model = from_pipeline(pipe)
    model.source = "random weights"
    model._hashes.update(dict.fromkeys(model.components, NO_HASH))
    return model
