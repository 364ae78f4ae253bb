"""Scheduler configurations that diffusers' pipelines of SD1 and SD2 put right: clipping, and the first timestep."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest

from sdcore import Engine
from sdcore.testing.parity import Recorder, difference, ours, theirs
from sdcore.testing.tiny import tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore")


def folder_with(tmp_path: Path, family: str, config: dict[str, Any]) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(family), folder)
    file = folder / "scheduler" / "scheduler_config.json"
    silent = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("clip_sample", "steps_offset")}
    file.write_text(json.dumps({**silent, **config}))
    index = folder / "model_index.json"
    parts = json.loads(index.read_text())
    index.write_text(
        json.dumps({**parts, "scheduler": ["diffusers", config.get("_class_name", silent["_class_name"])]})
    )
    return folder


@pytest.mark.parametrize("way", ["folder", "from_pipeline"])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "DDIMScheduler"},
        {"_class_name": "DDIMScheduler", "clip_sample": True, "steps_offset": 0},
        {"_class_name": "DDPMScheduler"},
    ],
    ids=str,
)
def test_what_the_pipeline_puts_right(tmp_path: Path, family: str, config: dict[str, Any], way: str) -> None:
    folder = folder_with(tmp_path, family, config)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    engine = (
        Engine.load(folder, plugins=[Recorder]) if way == "folder" else Engine.from_pipeline(pipe, plugins=[Recorder])
    )
    mine = ours(engine, prompt="a cat", seeds=(5,), steps=3, height=32, width=32, output="latent")
    # As it is: a scheduler made anew from its configuration would have lost what the pipeline has set.
    their = theirs(
        pipe, (5,), copy.deepcopy(pipe.scheduler), prompt="a cat", num_inference_steps=3, height=32, width=32
    )
    assert mine.timesteps == their.timesteps
    assert difference(mine, their) == 0.0


def test_latents_are_never_clipped(tmp_path: Path) -> None:
    """Also where the configuration is another scheduler's and says nothing of clipping."""
    folder = folder_with(tmp_path, "sdxl", {})
    with Engine.load(folder, plugins=[Recorder]) as engine:
        for name in ("ddim", "ddpm"):
            found = ours(engine, prompt="a cat", seeds=(5,), steps=3, height=32, width=32, scheduler=name)
            assert float(found.latents[-1].abs().max()) > 1.5
