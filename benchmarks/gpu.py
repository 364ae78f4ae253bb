"""sdcore against the diffusers pipeline doing the same work on a GPU: seconds, ratios and peak memory.

Models have the shapes of the published ones and random weights, made on the device: nothing is downloaded. Both sides
work on the same weights in memory, from the same start noise. Sides are interleaved in rounds within one process, the
device is waited for before and after each run, and a figure is the median over rounds.

    python benchmarks/gpu.py --out gpu.json --budget 75

After so many seconds no further case is begun. The file is written after every case; a case that fails is in it with
its error. ``--quick`` carries out all cases on the CPU with tiny shapes, to see that they run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BEGAN = time.perf_counter()
HERE = Path(__file__).resolve().parent
for _folder in (HERE.parent, *sorted(HERE.parent.glob("plugins/*/src"))):  # behind what is installed
    sys.path.append(str(_folder))

PROMPT = "a red apple on a wooden table, photo, soft light"
RANK, WEIGHT, SCALE = 16, 0.8, 0.8
BATCH, PICTURES = 4, 8
NO_HASH = "0" * 64
Taken = tuple[Any, list[Any]]
Work = Callable[[bool], Taken]
"""A side's work: latents and pictures. Latents of diffusers only if asked for: a callback costs it time."""


@dataclass
class Bench:
    """Where and how often is measured, and what the cases share."""

    device: str
    quick: bool
    rounds: int
    steps: int
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


# -- models ---------------------------------------------------------------------------------------------------


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


# -- pictures -------------------------------------------------------------------------------------------------


def ours(engine: Any, size: int, steps: int, count: int, use: Any = ()) -> Work:
    def work(_latents: bool) -> Taken:
        result = engine.generate(
            PROMPT, height=size, width=size, steps=steps, guidance_scale=7.5, seeds=list(range(1, count + 1)),
            batch_size=count, use=list(use),
        )  # fmt: skip
        return result.latents, list(result.images)

    return work


def theirs(pipe: Any, size: int, steps: int, count: int, **more: Any) -> Work:
    def work(latents: bool) -> Taken:
        import torch

        last: dict[str, Any] = {}

        def keep(_pipe: Any, _index: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
            last["latents"] = given["latents"]
            return given

        pictures = pipe(
            PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=7.5, output_type="pil",
            num_images_per_prompt=count, generator=[torch.Generator("cpu").manual_seed(n + 1) for n in range(count)],
            **({"callback_on_step_end": keep} if latents else {}), **more,
        ).images  # fmt: skip
        return last.get("latents"), list(pictures)

    return work


def compare(bench: Bench, makers: dict[str, Callable[[], Work]], found: dict[str, Any]) -> None:
    """Seconds, ratios, peaks and differences of sides; the last is what the others are compared with.

    A side that cannot be made or run is left out, with its error.
    """
    sides: dict[str, Work] = {}
    first: dict[str, Taken] = {}
    warm: dict[str, float] = {}
    *_, base = makers
    for name, maker in makers.items():
        with noted(found, name):
            work = maker()

            def warming(work: Work = work, name: str = name) -> None:
                first[name] = work(True)

            warm[name] = bench.timed(warming)
            sides[name] = work
    spent: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, list[int]] = {name: [] for name in sides}
    above: dict[str, list[int]] = {name: [] for name in sides}
    for round_ in range(bench.rounds):
        if round_ and bench.over:
            break
        for name in sorted(sides, reverse=bool(round_ % 2)):
            before = bench.allocated()
            spent[name].append(bench.timed(lambda work=sides[name]: work(False)))  # type: ignore[misc]
            peaks[name].append(bench.peak())
            above[name].append(bench.peak() - before)
    found["seconds"] = {name: statistics.median(times) for name, times in spent.items() if times}
    found["seconds_of_rounds"] = spent
    found["seconds_of_first_run"] = warm
    found["peak_mb"] = {name: max(sizes) / 1e6 for name, sizes in peaks.items() if sizes}
    found["peak_above_what_was_there_mb"] = {name: max(sizes) / 1e6 for name, sizes in above.items() if sizes}
    if base in sides:
        found["ratio"] = {
            name: statistics.median(a / b for a, b in zip(spent[name], spent[base], strict=True))
            for name in sides
            if name != base
        }
        found["difference"] = {name: apart(first[name], first[base]) for name in sides if name != base}


def apart(one: Taken, other: Taken) -> dict[str, float]:
    """Largest differences: of pictures in levels of 255, and of latents as they are and as a part of the largest."""
    import numpy as np

    pairs = zip(one[1], other[1], strict=True)
    levels = [np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16)) for a, b in pairs]
    told = {"picture": float(max(d.max() for d in levels)), "picture_mean": float(np.mean([d.mean() for d in levels]))}
    if one[0] is not None and other[0] is not None:
        a, b = one[0].detach().float().cpu(), other[0].detach().float().cpu()
        told |= {"latent": float((a - b).abs().max()), "largest_latent": float(b.abs().max())}
    return told


@contextlib.contextmanager
def noted(found: dict[str, Any], what: str) -> Iterator[None]:
    """Keep the error of a part in the results, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - told in the results
        found.setdefault("errors", {})[what] = lines = last_lines(error)
        print(f"  {what} failed: {lines}", flush=True)


def last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).strip()[-1500:]


def case_sd15(bench: Bench, count: int, found: dict[str, Any]) -> None:
    from sdcore import Engine

    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)
    work = ours(Engine(model_of(pipe), plugins=[]), size, steps, count)
    found |= {"size": size, "steps": steps, "batch": count, "force_upcast": bool(pipe.vae.config.force_upcast)}
    compare(
        bench,
        {
            "sdcore": lambda: work,
            "diffusers": lambda: theirs(pipe, size, steps, count),
        },
        found,
    )


def case_sdxl(bench: Bench, found: dict[str, Any]) -> None:
    from sdcore import Engine

    size, steps = (64, 2) if bench.quick else (1024, 10)
    pipe = sdxl(bench)
    found |= {"size": size, "steps": steps, "batch": 1, "force_upcast": bool(pipe.vae.config.force_upcast)}
    compare(
        bench,
        {
            "sdcore": lambda: ours(Engine(model_of(pipe), plugins=[]), size, steps, 1),
            "diffusers": lambda: theirs(pipe, size, steps, 1),
        },
        found,
    )


def case_lora(bench: Bench, found: dict[str, Any]) -> None:
    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)

    def mine() -> Work:
        from sdcore_lora import LoRA, LoRAPlugin

        from sdcore import Engine

        engine = Engine(model_of(pipe), plugins=[LoRAPlugin])
        return ours(engine, size, steps, 1, [LoRA(path=str(file()), weight=WEIGHT)])

    def base() -> Work:
        from diffusers import StableDiffusionPipeline

        parts = pipe.components | {"unet": copy.deepcopy(pipe.unet)}
        other = StableDiffusionPipeline(**parts, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        other.load_lora_weights(str(file().parent), weight_name=file().name, adapter_name="one")
        other.set_adapters(["one"], [WEIGHT])
        return theirs(other, size, steps, 1)

    def file() -> Path:
        from sdcore.testing.tiny_lora import tiny_lora

        path = bench.scratch / "lora.safetensors"
        if not path.exists():
            holder = SimpleNamespace(components={"unet": pipe.unet})
            kind = "float16" if bench.cuda else "float32"
            tiny_lora(path, holder, rank=RANK, scale=0.1, targets=("attention",), dtype=kind)
        return path

    found |= {"size": size, "steps": steps, "batch": 1, "rank": RANK}
    compare(bench, {"sdcore": mine, "diffusers": base}, found)


def case_controlnet(bench: Bench, found: dict[str, Any]) -> None:
    import torch
    from diffusers import ControlNetModel
    from PIL import Image

    size, steps = (64, 2) if bench.quick else (512, 20)
    pipe = sd15(bench)
    with making(bench):
        net: Any = ControlNetModel.from_unet(pipe.unet)
        with torch.no_grad():
            for convolution in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
                torch.nn.init.normal_(convolution.weight, std=0.02)
            torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.02)
    net = net.to(device=bench.device, dtype=bench.dtype).eval().requires_grad_(False)
    image = Image.effect_noise((size, size), 80).convert("RGB")

    def mine() -> Work:
        from sdcore_controlnet import ControlNet, ControlNetPlugin

        from sdcore import Engine

        folder = bench.scratch / "net"
        net.save_pretrained(folder)
        engine = Engine(model_of(pipe), plugins=[ControlNetPlugin])
        use = [ControlNet(model=str(folder), image=image, scale=SCALE)]
        return ours(engine, size, steps, 1, use)

    def base() -> Work:
        from diffusers import StableDiffusionControlNetPipeline

        other = StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False)
        other.set_progress_bar_config(disable=True)
        return theirs(other, size, steps, 1, image=image, controlnet_conditioning_scale=SCALE)

    found |= {"size": size, "steps": steps, "batch": 1}
    compare(bench, {"sdcore": mine, "diffusers": base}, found)


# -- training -------------------------------------------------------------------------------------------------

Stepper = tuple[Callable[[], object], Callable[[], object]]
"""One update, and what ends the training."""


def case_train(bench: Bench, lora: bool, found: dict[str, Any]) -> None:
    """Seconds of an update, one side after the other: two full trainings would not fit beside each other everywhere."""
    size = 64 if bench.quick else 512
    data = bench.scratch / "data"
    if not data.exists():
        draw_pictures(data, size)
    pipe = sd15(bench)
    makers: dict[str, Callable[[], Stepper]] = {
        "sdcore": lambda: our_training(bench, pipe, data, size, lora, True),
        "diffusers": lambda: their_training(bench, pipe, data, lora, False),
        "diffusers, latents and texts cached": lambda: their_training(bench, pipe, data, lora, True),
        "sdcore, nothing cached": lambda: our_training(bench, pipe, data, size, lora, False),
    }
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for name, maker in makers.items():
        if bench.over and len(seconds) > 1:
            break
        bench.free()
        before = bench.allocated()
        with noted(found, name):
            step, close = maker()
            for _ in range(2):
                step()
            bench.allocated()  # from here on peaks count
            seconds[name] = [bench.timed(step) for _ in range(bench.steps)]
            peaks[name] = (bench.peak() - before) / 1e6
            close()
        step = close = None  # type: ignore[assignment]
    found |= {"size": size, "batch": BATCH, "precision": precision_of(bench), "rank": RANK if lora else None}
    found["seconds"] = {name: statistics.median(times) for name, times in seconds.items()}
    found["seconds_of_rounds"] = seconds
    found["peak_above_what_was_there_mb"] = peaks
    pairs = {
        "sdcore": ("sdcore", "diffusers"),
        "sdcore, both cached": ("sdcore", "diffusers, latents and texts cached"),
        "sdcore, nothing cached": ("sdcore, nothing cached", "diffusers"),
    }
    median = found["seconds"]
    found["ratio"] = {
        name: median[one] / median[other] for name, (one, other) in pairs.items() if {one, other} <= median.keys()
    }


def precision_of(bench: Bench) -> str:
    return "bf16" if bench.cuda else "no"


def draw_pictures(folder: Path, size: int) -> None:
    """Drawn pictures with captions."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = []
    for number in range(PICTURES):
        small = Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"an icon of a red apple {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def copied(pipe: Any) -> Any:
    """A pipeline with weights of its own, float32."""
    from diffusers import StableDiffusionPipeline

    parts = dict(pipe.components)
    for name in ("unet", "vae", "text_encoder"):
        parts[name] = copy.deepcopy(parts[name]).float()
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def our_training(bench: Bench, pipe: Any, data: Path, size: int, lora: bool, cached: bool) -> Stepper:
    from sdcore_lora.training.plugin import LoRATraining
    from sdcore_train import TrainConfig
    from sdcore_train.loop import Loop
    from sdcore_train.methods.full import FullTraining
    from sdcore_train.prepare import fill_caches, load_job, prepare
    from sdcore_train.resolve import known_plugins, resolve

    attention = {"plugin": "lora", "options": {"rank": RANK, "targets": "attention"}}
    given: dict[str, Any] = {
        "output": tempfile.mkdtemp(dir=bench.scratch),
        "data": [{"path": str(data)}],
        "use": [attention if lora else {"plugin": "full", "options": {}}],
        "steps": 10_000,
        "batch_size": BATCH,
        "precision": precision_of(bench),
        "device": None if bench.cuda else "cpu",
        "optimizer": {"learning_rate": 1e-5},
        "pictures": {"height": size, "width": size, "buckets": False, "cache": "memory" if cached else "off"},
        "captions": {"dropout": 0.0, "cache": cached},
    }
    config, plugins = resolve(TrainConfig(**given), known_plugins([FullTraining, LoRATraining]))
    job = load_job(config, plugins, lambda _: None, model=model_of(copied(pipe)), progress=False)
    ready = prepare(job)
    if cached:
        fill_caches(job)
    updates = Loop(ready).run(0)

    def close() -> None:
        updates.close()
        job.close()

    return lambda: next(updates), close


def their_training(bench: Bench, pipe: Any, data: Path, lora: bool, cached: bool) -> Stepper:
    """The loop of diffusers' example scripts, train_text_to_image.py and its LoRA form."""
    import numpy as np
    import torch
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from PIL import Image

    own = copied(pipe)
    accelerator = Accelerator(mixed_precision=precision_of(bench), cpu=not bench.cuda)
    kind = torch.bfloat16 if bench.cuda else torch.float32
    unet, tokenizer = own.unet, own.tokenizer
    vae, encoder = own.vae.to(dtype=kind), own.text_encoder.to(dtype=kind)
    if lora:
        from peft import LoraConfig

        unet.to(dtype=kind)
        targets = ["to_k", "to_q", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
        parameters = [p for p in unet.parameters() if p.requires_grad]
    else:
        unet.requires_grad_(True)
        parameters = list(unet.parameters())
    unet.train()
    scheduler = DDPMScheduler.from_config(own.scheduler.config)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]

    def item(index: int) -> dict[str, Any]:
        image = Image.open(data / rows[index]["file_name"]).convert("RGB")
        ids = tokenizer(
            rows[index]["text"], max_length=tokenizer.model_max_length, padding="max_length", truncation=True,
            return_tensors="pt",
        ).input_ids[0]  # fmt: skip
        # What the scripts' transforms do (ToTensor, Normalize), without torchvision.
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255).sub(0.5).div(0.5)
        return {"pixel_values": pixels, "input_ids": ids}

    kept: list[dict[str, Any]] = []
    if cached:
        for index in range(len(rows)):
            one = item(index)
            with torch.no_grad():
                moments = vae.encode(one["pixel_values"][None].to(bench.device, kind)).latent_dist.parameters
                states = encoder(one["input_ids"][None].to(bench.device), return_dict=False)[0]
            kept.append({"moments": moments[0].cpu(), "states": states[0].cpu()})

    class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return kept[index] if cached else item(index)

    loader: Any = torch.utils.data.DataLoader(Pictures(), shuffle=True, batch_size=BATCH)
    rate: Any = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, rate = accelerator.prepare(unet, optimizer, loader, rate)

    def inputs(batch: dict[str, Any]) -> tuple[Any, Any]:
        if cached:
            mean, logvar = batch["moments"].chunk(2, dim=1)
            drawn = mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * torch.randn_like(mean)
            return drawn * vae.config.scaling_factor, batch["states"]
        latents = vae.encode(batch["pixel_values"].to(kind)).latent_dist.sample() * vae.config.scaling_factor
        return latents, encoder(batch["input_ids"], return_dict=False)[0]

    def steps() -> Iterator[float]:
        while True:
            for batch in loader:
                with accelerator.accumulate(unet):
                    latents, states = inputs(batch)
                    noise = torch.randn_like(latents)
                    timesteps = torch.randint(0, 1000, (len(latents),), device=latents.device).long()
                    noisy = scheduler.add_noise(latents, noise, timesteps)
                    prediction = unet(noisy, timesteps, states, return_dict=False)[0]
                    loss = torch.nn.functional.mse_loss(prediction.float(), noise.float(), reduction="mean")
                    average = accelerator.gather(loss.repeat(BATCH)).mean()
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(parameters, 1.0)
                    optimizer.step()
                    rate.step()
                    optimizer.zero_grad()
                yield average.item()

    made = steps()

    def close() -> None:
        made.close()  # type: ignore[attr-defined]
        accelerator.free_memory()

    return lambda: next(made), close


# -- all ------------------------------------------------------------------------------------------------------


def cases(bench: Bench) -> dict[str, Callable[[dict[str, Any]], None]]:
    """The cases by their names, the most telling first."""
    return {
        "SD1.5 shape, 1 picture": lambda found: case_sd15(bench, 1, found),
        "SD1.5 shape, 4 pictures": lambda found: case_sd15(bench, 4, found),
        "SDXL shape, 1 picture": lambda found: case_sdxl(bench, found),
        "SD1.5 shape, LoRA": lambda found: case_lora(bench, found),
        "SD1.5 shape, ControlNet": lambda found: case_controlnet(bench, found),
        "training, the whole U-Net": lambda found: case_train(bench, False, found),
        "training, LoRA": lambda found: case_train(bench, True, found),
    }


def facts(bench: Bench) -> dict[str, Any]:
    import importlib.metadata

    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    for name in ("diffusers", "transformers", "accelerate", "peft"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    told: dict[str, Any] = {"device": bench.device, "versions": versions, "threads": torch.get_num_threads()}
    if bench.cuda:
        about = torch.cuda.get_device_properties(0)
        told |= {"device": about.name, "device_memory_mb": about.total_memory / 1e6}
    return told | {"quick": bench.quick, "dtype": str(bench.dtype).removeprefix("torch."), "cases": {}}


def write(path: Path, results: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    head = ("case", "side", "seconds", "ratio to diffusers", "peak MB", "pictures differ by")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for case, found in results["cases"].items():
        if "skipped" in found or "error" in found:
            lines.append(f"| {case} | {found.get('skipped', 'failed')} | | | | |")
            continue
        peaks = found.get("peak_mb") or found.get("peak_above_what_was_there_mb", {})
        for side in dict.fromkeys([*found.get("seconds", {}), *found.get("ratio", {})]):
            seconds, ratio = found["seconds"].get(side), found.get("ratio", {}).get(side)
            differ = found.get("difference", {}).get(side, {}).get("picture")
            cells = [
                "" if seconds is None else f"{seconds:.3f}",
                "" if ratio is None else f"{ratio:.3f}",
                "" if side not in peaks else f"{peaks[side]:,.0f}",
                "" if differ is None else f"{differ:.0f} of 255",
            ]
            lines.append(f"| {case} | {side} | {' | '.join(cells)} |")
        lines += [f"| {case} | {side}: failed | | | | |" for side in found.get("errors", {})]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, write a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which no further case is begun")
    parser.add_argument("--rounds", type=int, default=3, help="of pictures, after one that warms up")
    parser.add_argument("--steps", type=int, default=6, help="of training, after two that warm up")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="tiny shapes on the CPU, to see that it runs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, ignore_cleanup_errors=True) as scratch:
        device = "cpu" if arguments.quick else arguments.device
        rounds, steps = arguments.rounds, arguments.steps
        bench = Bench(device, arguments.quick, rounds, steps, arguments.budget, Path(scratch))
        if bench.cuda and not torch.cuda.is_available():
            raise SystemExit("torch finds no CUDA device here; --quick runs all of it on the CPU with tiny shapes")
        results = facts(bench)
        results["seconds_until_first_case"] = time.perf_counter() - BEGAN
        write(arguments.out, results)
        for name, case in cases(bench).items():
            if arguments.only not in name:
                continue
            found: dict[str, Any] = {}
            results["cases"][name] = found
            if bench.over:
                found["skipped"] = "the budget is spent"
                continue
            print(f"{name} ({time.perf_counter() - BEGAN:.1f} s)", flush=True)
            begin = time.perf_counter()
            try:
                case(found)
            except Exception as error:  # noqa: BLE001 - told in the results; the next case goes on
                found["error"] = last_lines(error)
                print(f"  failed: {found['error']}", flush=True)
            found["seconds_of_case"] = time.perf_counter() - begin
            write(arguments.out, results)
            with contextlib.suppress(Exception):
                bench.free()
        results["seconds"] = time.perf_counter() - BEGAN
        write(arguments.out, results)
    print(table(results))
    print(f"\n{results['device']}, {results['seconds']:.0f} s; written to {arguments.out}")


if __name__ == "__main__":
    main()
