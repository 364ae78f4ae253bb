"""What was trained is what the file does: in the engine, and in diffusers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from sdcore_lora import LoRA, TrainLoRA, read_lora

from sdcore.models import load_model
from sdcore.quiet import quiet
from sdcore.testing.parity import difference, theirs
from sdcore.testing.tiny import tiny_folder

from .kit import FIELDS, Watch, config, drawn, run, same, weights

pytestmark = pytest.mark.filterwarnings("ignore")
PIPES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "alpha": 2},
    "locon": {"rank": 4, "alpha": 8, "conv_rank": 2, "conv_alpha": 3, "targets": "linear+conv"},
    "dora": {"rank": 4, "dora": True, "targets": "linear+conv"},
    "rslora": {"rank": 9, "rslora": True, "init": "gaussian", "dropout": 0.3},
    "pissa": {"rank": 4, "alpha": 2, "conv_rank": 3, "init": "pissa", "dora": True, "targets": "linear+conv"},
    "expression": {"rank": 2, "targets": r"attn2\.to_[kv]$|mid_block.*conv1|text_encoder.*fc1"},
}
CASES = [
    *(("sd1", kind) for kind in ("locon", "rslora", "pissa", "expression")),
    *(("sd2", "locon"), ("sdxl", "lora"), ("sdxl", "dora")),
]


@functools.cache
def pipe_of(family: str) -> Any:
    with quiet():
        return getattr(diffusers, PIPES[family]).from_pretrained(tiny_folder(family))


def in_diffusers(family: str, path: Path) -> Any:
    pipe = pipe_of(family)
    other = {key: value for key, value in FIELDS.items() if key not in ("steps", "seed", "output")}
    try:
        with quiet():
            pipe.load_lora_weights(str(path))
        return theirs(pipe, [1], num_inference_steps=FIELDS["steps"], **other)
    finally:
        pipe.unload_lora_weights()


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_the_file_is_what_was_trained(family: str, kind: str, tmp_path: Path) -> None:
    # diffusers reads no DoRA in kohya's names.
    layout = "diffusers" if "dora" in KINDS[kind] else "both"
    lora = TrainLoRA(text_encoder=True, text_encoder_rank=3, dtype="float32", layout=layout, **KINDS[kind])
    made = config(tmp_path, family, lora)
    model = load_model(made.model, device="cpu", dtype="float32")
    before, modules, plain = weights(model), names(model), drawn(model)
    _, result, watch = run(made, model=model, watch=Watch(look=True))
    assert [path.name for path in result.files] == ["lora.safetensors", "lora-peft"][: len(result.files)]
    assert difference(plain, watch.trace) > 1e-2  # it learnt something
    for path in result.files:
        assert difference(drawn(model, LoRA(path=path)), watch.trace) < 1e-5
    assert difference(in_diffusers(family, result.files[0]), watch.trace) < 1e-5
    # Nothing is left in the model.
    assert same(weights(model), before)
    assert names(model) == modules
    for part in model.components.values():
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not hasattr(part, "peft_config")
        assert "forward" not in vars(part)


def names(model: Any) -> list[str]:
    return [f"{name}.{key}" for name, part in model.components.items() for key, _ in part.named_modules()]


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_peft_reads_the_folder(component: str, tmp_path: Path) -> None:
    import copy

    from peft import PeftModel

    what: dict[str, Any] = {"alpha": 3, "dtype": "float32", "layout": "peft"}
    what |= {"targets": "linear+conv", "conv_rank": 2} if component == "unet" else {"unet": False, "text_encoder": True}
    lora = TrainLoRA(**what)
    _, result, watch = run(config(tmp_path, "sd1", lora), watch=Watch(look=True))
    pipe = pipe_of("sd1")
    own = getattr(pipe, component)
    other = {key: value for key, value in FIELDS.items() if key not in ("steps", "seed", "output")}
    try:
        setattr(pipe, component, PeftModel.from_pretrained(copy.deepcopy(own), result.files[0]))
        expected = theirs(pipe, [1], num_inference_steps=FIELDS["steps"], **other)
    finally:
        setattr(pipe, component, own)
    assert difference(watch.trace, expected) < 1e-5


def test_layouts_say_the_same(tmp_path: Path) -> None:
    lora = TrainLoRA(**{**KINDS["dora"], "dtype": "float32", "layout": "both", "targets": "attn1|conv1"})
    _, result, _ = run(config(tmp_path, "sd1", lora, steps=1))
    kohya, folder = (read_lora(path).layers for path in result.files)
    assert kohya.keys() == folder.keys()
    for name, layer in kohya.items():
        other = folder[name]
        assert layer.scale == pytest.approx(other.scale)
        assert layer.parts.keys() == other.parts.keys() == {"down", "up", "dora"}
        assert all(torch.equal(value.flatten(), other.parts[part].flatten()) for part, value in layer.parts.items())


def test_half_precision_loses_little(tmp_path: Path) -> None:
    model, result, watch = run(config(tmp_path, "sd1", TrainLoRA(rank=4, targets="attention")), watch=Watch(look=True))
    assert {str(value.dtype) for value in load_file(result.files[0]).values()} == {"torch.float16"}
    assert difference(drawn(model, LoRA(path=result.files[0])), watch.trace) < 2e-2
