from __future__ import annotations

from types import SimpleNamespace

import diffusers
import pytest
import torch

from sdcore.errors import ModelError
from sdcore.models import from_pipeline
from sdcore.testing.tiny import tiny_folder

CLASSES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}


@pytest.mark.parametrize("family", CLASSES)
def test_shares_and_changes_nothing(family: str) -> None:
    pipe = getattr(diffusers, CLASSES[family]).from_pretrained(tiny_folder(family))
    pipe.unet.train()
    pipe.unet.requires_grad_(True)
    pipe.enable_attention_slicing()
    before = {name: part for name, part in pipe.components.items() if part is not None}
    processors = dict(pipe.unet.attn_processors)
    scheduler = dict(pipe.scheduler.config)
    pointers = {key: tensor.data_ptr() for key, tensor in pipe.unet.state_dict().items()}

    model = from_pipeline(pipe)

    assert model.family == family
    assert model.source == "pipeline"
    assert model.unet is pipe.unet
    assert model.vae is pipe.vae
    assert {key: tensor.data_ptr() for key, tensor in model.unet.state_dict().items()} == pointers
    assert all(part is before[name] for name, part in model.components.items())
    assert all(tokenizer in before.values() for tokenizer in model.tokenizers)
    assert pipe.unet.training
    assert all(parameter.requires_grad for parameter in pipe.unet.parameters())
    assert dict(pipe.unet.attn_processors) == processors
    assert dict(pipe.scheduler.config) == scheduler
    model.scheduler_config["prediction_type"] = "changed"
    assert pipe.scheduler.config.prediction_type == "epsilon"
    assert {name: part for name, part in pipe.components.items() if part is not None} == before


def test_flags_and_scheduler() -> None:
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_folder("sdxl"))
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    model = from_pipeline(pipe)
    assert model.scheduler_config["_class_name"] == "DPMSolverMultistepScheduler"
    assert model.scheduler_config["beta_schedule"] == "scaled_linear"
    assert model.config == {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False}
    assert model.defaults == {}


def test_hashes_of_weights_without_files() -> None:
    first = from_pipeline(diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1")))
    again = from_pipeline(diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1")))
    hashes = first.hashes()
    assert set(hashes) == {"unet", "vae", "text_encoder"}
    assert hashes == again.hashes()
    with torch.no_grad():
        next(again.unet.parameters()).view(-1)[0] += 1
    assert again.hashes() == hashes  # computed once
    shared = SimpleNamespace(
        components={**again.components, "tokenizer": again.tokenizers[0], "scheduler": scheduler()}
    )
    changed = from_pipeline(shared).hashes()
    assert changed["unet"] != hashes["unet"]
    assert changed["vae"] == hashes["vae"]


def scheduler() -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def test_half_precision_hashes() -> None:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1"), dtype=torch.bfloat16)
    assert len(from_pipeline(pipe).hashes()["unet"]) == 64


def test_what_is_not_a_pipeline() -> None:
    with pytest.raises(ModelError, match="dict is not a diffusers pipeline"):
        from_pipeline({})
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1"))
    pipe.unet = None
    with pytest.raises(ModelError, match="StableDiffusionPipeline: has no unet"):
        from_pipeline(pipe)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder("sd1"), text_encoder=None)
    with pytest.raises(ModelError, match="has no text_encoder"):
        from_pipeline(pipe)
