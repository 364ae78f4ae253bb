"""Trainings that learn, go on, and say what they are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sdcore_lora import LoRA, TrainLoRA, read_lora
from sdcore_lora.inspecting import describe

from sdcore.testing.parity import difference

from .kit import Stop, Watch, config, drawn, pictures, run


def test_one_picture_is_learnt(tmp_path: Path) -> None:
    pictures(tmp_path / "data", count=1)
    steady: list[Any] = [TrainLoRA(rank=8), {"plugin": "timesteps", "options": {"start": 0.5}}]
    data = [{"path": str(tmp_path / "data"), "repeats": 4}]
    made = config(tmp_path, use=steady, data=data, steps=30, batch_size=4, optimizer={"learning_rate": 5e-3})
    _, _, watch = run(made)
    first, last = sum(watch.losses[:8]) / 8, sum(watch.losses[-8:]) / 8
    assert last < 0.75 * first, (first, last)


@pytest.mark.parametrize(
    "options",
    [
        {"targets": "attention", "dropout": 0.4, "text_encoder": True, "init": "gaussian"},
        {"rank": 2, "init": "pissa", "dora": True, "targets": "conv1|attn1", "layout": "both"},
    ],
)
def test_going_on_is_bit_identical(options: dict[str, Any], tmp_path: Path) -> None:
    fields = {"steps": 4, "batch_size": 1, "accumulate": 2, "checkpoints": {"every": 2}, "ema": {"decay": 0.9}}
    lora = TrainLoRA(dtype="float32", **options)
    whole = run(config(tmp_path, lora=lora, output=str(tmp_path / "whole"), **fields))[1]
    cut = config(tmp_path, lora=lora, output=str(tmp_path / "cut"), **fields)
    with pytest.raises(Stop):
        run(cut, watch=Watch(stop=3))
    torch.rand(7)  # the global generators are somewhere else
    again = run(cut, resume=True)[1]
    for one, other in zip(_files(whole.files), _files(again.files), strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def _files(found: Any) -> list[Path]:
    return [file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*.*")))]


def test_the_learning_rate_unless_another_is_given(tmp_path: Path) -> None:
    from sdcore_train import TrainConfig, known_plugins
    from sdcore_train.resolve import resolve

    assert resolve(TrainConfig(use=["lora"]), known_plugins())[0].optimizer.learning_rate == 1e-4
    given = TrainConfig(use=["lora"], optimizer={"learning_rate": 3e-3, "clip": 0.0})
    assert resolve(given, known_plugins())[0].optimizer.learning_rate == 3e-3
    other = TrainConfig(use=["lora"], optimizer={"clip": 0.0})
    assert resolve(other, known_plugins())[0].optimizer.model_dump(include={"learning_rate", "clip"}) == {
        "learning_rate": 1e-4,
        "clip": 0.0,
    }


def test_bfloat16_is_nearly_the_same(tmp_path: Path) -> None:
    losses = [
        run(config(tmp_path, steps=2, precision=precision, output=str(tmp_path / precision)))[2].losses
        for precision in ("no", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_global_generators_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(config(tmp_path, lora=TrainLoRA(rank=2, dropout=0.5, dora=True, targets="attn2"), steps=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_and_seed_change_what_is_learnt(tmp_path: Path) -> None:
    def learnt(name: str, lora: TrainLoRA, **fields: Any) -> str:
        path = run(config(tmp_path, lora=lora, output=str(tmp_path / name), steps=1, **fields))[1].files[0]
        tensors = load_file(path)
        return hashlib.sha256(b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors))).hexdigest()

    plain = learnt("a", TrainLoRA(rank=2, targets="attn2"))
    assert learnt("b", TrainLoRA(rank=2, targets="attn2")) == plain
    assert learnt("c", TrainLoRA(rank=2, dropout=0.5, targets="attn2")) != plain
    assert learnt("d", TrainLoRA(rank=2, targets="attn2"), seed=1) != plain


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_resume_from_begins_with_the_file(layout: str, tmp_path: Path) -> None:
    same = {"dtype": "float32", "targets": "attn1|conv1|self_attn", "conv_rank": 2, "rank": 4, "dora": layout != "peft"}
    first = TrainLoRA(alpha=2, layout=layout, text_encoder=True, **same)
    model, result, _ = run(config(tmp_path, lora=first))
    learnt = drawn(model, LoRA(path=result.files[0]))
    assert difference(learnt, drawn(model)) > 1e-2
    # Another alpha only says the same with other numbers; a rate of 0 leaves it.
    second = TrainLoRA(alpha=8, resume_from=str(result.files[0]), text_encoder=True, **same)
    still = config(tmp_path, lora=second, output=str(tmp_path / "more"), steps=1, optimizer={"learning_rate": 0.0})
    again = run(still)[1].files[0]
    assert difference(drawn(model, LoRA(path=again)), learnt) < 1e-5


def test_a_dora_goes_on_from_a_lora_and_text_encoders_join(tmp_path: Path) -> None:
    model, result, _ = run(config(tmp_path))
    more = TrainLoRA(
        rank=4, targets="attn2|fc1", dora=True, text_encoder=True, dtype="float32", resume_from=str(result.files[0])
    )
    made = config(tmp_path, lora=more, output=str(tmp_path / "more"), steps=1, optimizer={"learning_rate": 0.0})
    path = run(made)[1].files[0]
    assert {component for component, _ in read_lora(path).layers} == {"unet", "text_encoder"}
    assert difference(drawn(model, LoRA(path=path)), drawn(model, LoRA(path=result.files[0]))) < 1e-5


def test_another_file_to_begin_with_is_another_training(tmp_path: Path) -> None:
    from sdcore_train import ConfigError

    _, result, _ = run(config(tmp_path))
    path = result.files[0]
    lora = TrainLoRA(rank=4, targets="attn2", resume_from=str(path))
    made = config(tmp_path, lora=lora, output=str(tmp_path / "more"), steps=1)
    run(made)
    tensors = load_file(path)
    from safetensors.torch import save_file

    save_file({key: value * 2 for key, value in tensors.items()}, path)
    with pytest.raises(ConfigError, match="lora: what it works with is not what it was"):
        run(config(tmp_path, lora=lora, output=str(tmp_path / "more"), steps=2), resume=True)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    lora = TrainLoRA(rank=4, alpha=2, targets="linear+conv", conv_rank=3, text_encoder=True, trigger="zwx style")
    made = config(tmp_path, "sdxl", lora=lora, steps=1)
    _, result, _ = run(made)
    with safe_open(result.files[0], "pt") as file:
        about = file.metadata()
    expected = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_sd_model_name": "sdxl",
        "ss_num_train_images": "4",
        "ss_output_name": "lora",
        "modelspec.trigger_phrase": "zwx style",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
    }
    assert {key: about.get(key) for key in expected} == expected
    assert json.loads(about["ss_network_args"])["conv_dim"] == "3"
    assert json.loads(about["ss_tag_frequency"]) == {"data": {"a red apple": 4, "style 0": 2, "style 1": 2}}
    assert len(about["sdcore_config_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(about)
    assert made.model is not None
    assert str(Path(made.model).parent) not in json.dumps(about)
    told = describe(result.files[0], model=made.model)
    assert told["trigger_words"][:2] == ["zwx style", "a red apple"]
    assert told["fits"] is True
    assert told["groups"]["U-Net: convolutions"]["ranks"] == [3, 4]  # 1x1 shortcuts have that of linear layers
    assert told["groups"]["text encoder 2: attention"]["alphas"] == [2.0]
    assert not told["unused"]


def test_the_command(tmp_path: Path) -> None:
    made = config(tmp_path)
    assert made.model is not None
    words = ["train", "lora", "--data", str(tmp_path / "data"), "--model", made.model, "--output", "out", "--rank", "3"]
    words += ["--targets", "attention", "--steps", "1", "--device", "cpu", "--pictures.height", "32", "--text-encoder"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from sdcore.cli import main; sys.exit(main())", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(Path("out") / "lora.safetensors")
    ranks = [layer.parts["down"].shape[0] for layer in read_lora(tmp_path / "out" / "lora.safetensors").layers.values()]
    assert set(ranks) == {3}


def test_importing_needs_no_torch() -> None:
    code = (
        "import sys, sdcore_lora; from sdcore_lora.training.plugin import LoRATraining; "
        "LoRATraining(sdcore_lora.TrainLoRA(rank=2)); "
        "print([name for name in ('torch', 'peft', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
