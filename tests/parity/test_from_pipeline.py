"""An engine around a pipeline's components: the pipeline's own results, and the pipeline none the wiser."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from sdcore import Engine
from sdcore.testing.tiny import tiny_folder

from .oracle import MODELS, NEGATIVE, PROMPT, SEEDS, Both, Recorder, difference, diffusers_scheduler

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CLASSES = {
    "sd1": "StableDiffusionPipeline",
    "sd2-v": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}


def pipeline(model: str) -> Any:
    family, prediction_type = MODELS[model]
    pipe = getattr(diffusers, CLASSES[model]).from_pretrained(tiny_folder(family, prediction_type=prediction_type))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def around(model: str, pipe: Any) -> Both:
    engine = Engine.from_pipeline(pipe, plugins=[Recorder])
    return Both(model, engine, {"img2img" if model == "refiner" else "txt2img": pipe})


@pytest.mark.parametrize("model", CLASSES)
def test_same_and_unchanged(model: str) -> None:
    pipe = pipeline(model)
    both = around(model, pipe)
    (task,) = both.pipes
    state = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    scheduler, config = pipe.scheduler, dict(pipe.scheduler.config)
    processors = {name: type(value) for name, value in pipe.unet.attn_processors.items()}
    for name in (None, "euler-karras"):
        ours, theirs = both.pair(task, name, SEEDS[:2], pictures=True, guidance_scale=6.0)
        assert difference(ours, theirs) == 0.0
        assert [image.tobytes() for image in ours.images] == [image.tobytes() for image in theirs.images]
    before = both.pair(task, None, SEEDS)[1]
    both.sdcore(prompt="a dog", seed=1, steps=2, height=32, width=32, clip_skip=1)
    after = both.pair(task, None, SEEDS)[1]
    assert difference(before, after) == 0.0
    assert pipe.scheduler is scheduler
    assert dict(pipe.scheduler.config) == config
    assert {name: type(value) for name, value in pipe.unet.attn_processors.items()} == processors
    assert all(torch.equal(value, state[name]) for name, value in pipe.unet.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.unet.modules())


def test_settings_that_the_pipeline_never_made() -> None:
    """A scheduler object holds its class's defaults; another class is to have its own, as in diffusers."""
    pipe = pipeline("sd1")
    sparse: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "skip_prk_steps": True,
    }
    sparse["clip_sample"] = False  # where a configuration is silent, DDIM of diffusers would clip; see test_old_configs
    pipe.scheduler = diffusers.PNDMScheduler.from_config(sparse)
    assert pipe.scheduler.config.timestep_spacing == "leading"
    assert diffusers_scheduler(pipe, "euler", SEEDS).config.timestep_spacing == "linspace"
    both = around("sd1", pipe)
    for name in (None, "euler", "ddim", "dpmpp-2m", "heun"):
        assert difference(*both.pair("txt2img", name)) == 0.0, name


def test_no_zeros_for_an_empty_prompt() -> None:
    pipe = pipeline("sdxl")
    fields = {"prompt": PROMPT, "height": 32, "width": 32, "num_inference_steps": 2}
    with_zeros = around("sdxl", pipe).sdcore(seed=1, **fields)
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    both = around("sdxl", pipe)
    ours, theirs = both.pair("txt2img", "ddim", negative_prompt=None)
    assert difference(ours, theirs) == 0.0
    assert not torch.equal(both.sdcore(seed=1, **fields).latents[0], with_zeros.latents[0])


def test_a_text_encoder_that_its_owner_changes() -> None:
    """Encodings are not kept between runs: the pipeline's owner may load other weights."""
    pipe = pipeline("sd1")
    both = around("sd1", pipe)
    first = both.ours("txt2img", "ddim", negative_prompt=NEGATIVE)
    with torch.no_grad():
        for parameter in pipe.text_encoder.parameters():
            parameter.mul_(1.1)
    ours, theirs = both.pair("txt2img", "ddim", negative_prompt=NEGATIVE)
    assert difference(ours, theirs) == 0.0
    assert not torch.equal(first.latents[0], ours.latents[0])


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")  # diffusers calls its own
@pytest.mark.parametrize("model", ["sd1", "sd2-v", "sdxl"])
def test_half_precision(model: str) -> None:
    """Only SDXL's codec works in float32 then, and scales in it; the older ones stay in float16, as in diffusers."""
    pipe = pipeline(model).to(torch.float16)
    assert pipe.vae.config.force_upcast
    seen: list[torch.dtype] = []
    pipe.vae.decoder.conv_in.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    ours, theirs = around(model, pipe).pair("txt2img", None, SEEDS[:2], pictures=True, num_inference_steps=2)
    assert difference(ours, theirs) == 0.0
    assert [image.tobytes() for image in ours.images] == [image.tobytes() for image in theirs.images]
    assert set(seen) == {torch.float32 if model == "sdxl" else torch.float16}
