from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdcore.models import load_model
from sdcore.models.prediction import probe
from sdcore.testing.tiny import tiny_folder

from .original_layout import original_state, save_single_file

OUT_BIAS = "model.diffusion_model.out.2.bias"


def load(family: str, path: Path, in_channels: int = 4, **settings: Any) -> dict[str, Any]:
    folder = tiny_folder(family, in_channels=in_channels)
    argument = settings.pop("prediction_type", None)
    file = save_single_file(folder, family, path / "model.safetensors", **settings)
    tokenizers = {part.name: part for part in folder.glob("tokenizer*")}
    return load_model(file, components=tokenizers, prediction_type=argument).scheduler_config


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_epsilon_unless_the_file_says_otherwise(family: str, tmp_path: Path) -> None:
    found = load(family, tmp_path)
    assert found["prediction_type"] == "epsilon"
    assert found["timestep_spacing"] == "leading"


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_marker_keys(family: str, tmp_path: Path) -> None:
    found = load(family, tmp_path, extra={"v_pred": torch.empty(0)})
    assert found["prediction_type"] == "v_prediction"
    assert "rescale_betas_zero_snr" not in found
    found = load(family, tmp_path, extra={"v_pred": torch.empty(0), "ztsnr": torch.empty(0)})
    assert found["prediction_type"] == "v_prediction"
    assert found["rescale_betas_zero_snr"] is True
    assert found["timestep_spacing"] == "trailing"


@pytest.mark.parametrize(("stated", "expected"), [("v", "v_prediction"), ("epsilon", "epsilon"), ("", "epsilon")])
def test_metadata(stated: str, expected: str, tmp_path: Path) -> None:
    found = load("sdxl", tmp_path, metadata={"modelspec.prediction_type": stated})
    assert found["prediction_type"] == expected


def test_the_argument_decides(tmp_path: Path) -> None:
    extra = {"v_pred": torch.empty(0)}
    assert load("sdxl", tmp_path, extra=extra, prediction_type="epsilon")["prediction_type"] == "epsilon"
    assert load("sd2", tmp_path, prediction_type="v")["prediction_type"] == "v_prediction"
    folder = tiny_folder("sd1")
    assert load_model(folder, prediction_type="sample").scheduler_config["prediction_type"] == "sample"
    assert load_model(folder).scheduler_config["prediction_type"] == "epsilon"


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "epsilon"), (-1.5, "v_prediction")])
def test_probe_of_sd2(shift: float, expected: str, tmp_path: Path) -> None:
    """The output's bias is set so that the answer to the probe is the input (noise), or 1.5 below it (velocity)."""
    folder = tiny_folder("sd2")
    unet = load_model(folder).unet
    with torch.inference_mode():
        noisy = torch.full((1, 4, 8, 8), 0.5)
        answer = unet(noisy, 999, encoder_hidden_states=torch.full((1, 2, 64), 0.5)).sample
    bias = original_state(folder, "sd2")[OUT_BIAS] + (noisy - answer).mean() + shift
    assert load("sd2", tmp_path, extra={OUT_BIAS: bias})["prediction_type"] == expected


def test_inpainting_sd2_predicts_noise(tmp_path: Path) -> None:
    bias = torch.full((4,), -50.0)
    assert load("sd2", tmp_path, in_channels=9, extra={OUT_BIAS: bias})["prediction_type"] == "epsilon"


def test_probe_leaves_no_trace() -> None:
    model = load_model(tiny_folder("sd2"))
    state = torch.random.get_rng_state()
    before = model.unet.conv_in.weight.clone()
    assert probe(model.unet) in ("epsilon", "v_prediction")
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(before, model.unet.conv_in.weight)
