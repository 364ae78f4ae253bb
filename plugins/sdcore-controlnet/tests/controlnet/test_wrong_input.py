"""What cannot work is told before anything is computed, and leaves the engine as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from sdcore_controlnet import ControlNet
from sdcore_controlnet.describe import describe
from sdcore_controlnet.fits import misfit

from sdcore import Plugin, SdcoreError, hookimpl, ports
from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

from .kit import engine_for, picture

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL: dict[str, Any] = {"prompt": "a red cat", "seed": 5, "steps": 2, "height": 32, "width": 32, "output": "latent"}


def _folder(tmp_path: Path, kind: str = "net", **config: Any) -> Path:
    source = tiny_controlnet("sd1") if kind == "net" else tiny_t2i_adapter("sd1")
    folder = tmp_path / kind
    shutil.copytree(source, folder)
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | config))
    return folder


def _file(tmp_path: Path, *keys: str) -> Path:
    save_file({key: torch.zeros(2, 2) for key in keys}, tmp_path / "other.safetensors")
    return tmp_path / "other.safetensors"


def _truncated(tmp_path: Path) -> Path:
    folder = _folder(tmp_path)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    return folder


def _with_nan(tmp_path: Path) -> Path:
    folder = _folder(tmp_path)
    weights = load_file(folder / WEIGHTS)
    weights["controlnet_mid_block.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    (tmp_path / "nan.safetensors").replace(folder / WEIGHTS)
    return folder


def _without(tmp_path: Path, name: str) -> Path:
    folder = _folder(tmp_path)
    (folder / name).unlink()
    return folder


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "another family": (lambda p: _folder(p, cross_attention_dim=1024), {}, "for SD2.x, and the model is SD1.x"),
    "xl": (lambda p: tiny_controlnet("sdxl"), {}, "SDXL's added conditions, and the model is SD1.x"),
    "xl adapter": (lambda p: tiny_t2i_adapter("sdxl"), {}, "T2I-Adapter for SDXL, and the model is SD1.x"),
    "sd2 adapter": (lambda p: tiny_t2i_adapter("sd2"), {}, r"channels \[32, 64, 128\].*needs \[32, 64, 64\]"),
    "other widths": (lambda p: tiny_controlnet("sd2"), {}, r"channels \[32, 64, 128\]"),
    "other codec": (
        lambda p: tiny_controlnet("sd1", conditioning_embedding_out_channels=(8, 8, 8, 8)), {}, "makes of 8 pixels"
    ),
    "no such file": (lambda p: p / "nothing", {}, "no such folder or file"),
    "truncated": (_truncated, {}, "truncated"),
    "no config": (lambda p: _without(p, "config.json"), {}, "config.json: cannot be read"),
    "no weights": (lambda p: _without(p, WEIGHTS), {}, "no weights"),
    "nan": (_with_nan, {}, "controlnet_mid_block.weight holds NaN"),
    "union folder": (lambda p: _folder(p, _class_name="ControlNetUnionModel"), {}, "a ControlNet-Union"),
    "xs folder": (lambda p: _folder(p, _class_name="ControlNetXSAdapter"), {}, "a ControlNet-XS"),
    "u-net folder": (lambda p: _folder(p, _class_name="UNet2DConditionModel"), {}, "UNet2DConditionModel"),
    "lllite": (lambda p: _file(p, "lllite_unet_input_blocks_4_1.down.0.weight"), {}, "ControlNet-LLLite"),
    "control-lora": (lambda p: _file(p, "lora_controlnet", "input_blocks.1.0.in_layers.2.up"), {}, "a Control-LoRA"),
    "union file": (lambda p: _file(p, "task_embedding", "controlnet_cond_embedding.conv_in.weight"), {}, "Union"),
    "lora": (lambda p: _file(p, "lora_unet_mid_block.lora_down.weight"), {}, "a LoRA"),
    "half a net": (lambda p: _file(p, "controlnet_cond_embedding.conv_in.weight"), {}, "not complete"),
    "blocks": (lambda p: tiny_controlnet("sd1"), {"blocks": (1, 1)}, "blocks has 2 factors.*give 7"),
    "adapter blocks": (lambda p: tiny_t2i_adapter("sd1"), {"blocks": (1, 1, 1, 1)}, "give 3"),
    "aspect": (lambda p: tiny_controlnet("sd1"), {"image": picture(1, 64, 32)}, "'stretch'.*'crop'.*'pad'"),
    "mask aspect": (lambda p: tiny_controlnet("sd1"), {"mask": picture(1, 64, 32)}, "mask is 64x32"),
    "no picture": (lambda p: tiny_controlnet("sd1"), {"image": None, "preprocess": "canny"}, "no input picture"),
    "preprocessor": (lambda p: tiny_controlnet("sd1"), {"preprocess": "cany"}, "Did you mean 'canny'"),
    "preprocessor option": (
        lambda p: tiny_controlnet("sd1"), {"preprocess": "canny", "preprocess_options": {"hihg": 3}}, "hihg"
    ),
    "image file": (lambda p: tiny_controlnet("sd1"), {"image": "missing.png"}, "missing.png"),
    "not a picture": (lambda p: tiny_controlnet("sd1"), {"image": __file__}, "not a picture"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_before_anything_is_computed(case: str, tmp_path: Path) -> None:
    make, options, message = CASES[case]
    engine = engine_for("sd1")
    calls: list[int] = []
    hook = engine.model.unet.register_forward_hook(lambda *_: calls.append(1))
    encoder = engine.model.vae.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(SdcoreError, match=message):
            engine.generate(**SMALL, use=[ControlNet(**{"model": make(tmp_path), "image": picture(11), **options})])
    finally:
        hook.remove()
        encoder.remove()
    assert not calls


def test_all_problems_are_told_at_once() -> None:
    uses = [
        ControlNet(model="no/such/net", image=picture(11)),
        ControlNet(model=tiny_controlnet("sd1"), image=picture(11), blocks=(1,)),
    ]
    with pytest.raises(SdcoreError, match=r"no/such/net.*blocks has 1"):
        engine_for("sd1").generate(**SMALL, use=uses)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": 0.5, "end": 0.5}, "start 0.5 must be below end 0.5"),
        ({"start": 0.8, "end": 0.2}, "must be below"),
        ({"image": None}, "there is no control picture"),
        ({"scale": float("nan")}, "finite"),
        ({"scale": 11}, "less than or equal to 10"),
        ({"mode": "soft"}, "balanced"),
        ({"model": ""}, "empty"),
        ({"model": 3}, "no network"),
        ({"image": b"text"}, "not a picture"),
        ({"preprocess": "inpaint"}, "needs inpaint_mask"),
        ({"inpaint_mask": picture(1)}, "preprocess='inpaint'"),
        ({"preprocess_options": {"low": 1}}, "no preprocessor"),
        ({"blocks": ()}, "at least 1"),
        ({"strenght": 1.0}, "has no option 'strenght'"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_options_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValidationError, SdcoreError), match=message):
        ControlNet(**{"model": "folder", "image": picture(1), **fields})


def test_a_module_of_another_kind() -> None:
    unet = engine_for("sd1").model.unet
    with pytest.raises(SdcoreError, match="UNet2DConditionModel given: it is another network"):
        engine_for("sd1").generate(**SMALL, use=[ControlNet(model=unet, image=picture(1))])


def test_families_are_named_by_what_was_published() -> None:
    unets: dict[str, dict[str, Any]] = {
        "sd1": {"cross_attention_dim": 768, "addition_embed_type": None},
        "sd2": {"cross_attention_dim": 1024, "addition_embed_type": None},
        "sdxl": {"cross_attention_dim": 2048, "addition_embed_type": "text_time"},
    }
    names = {"sd1": "SD1.x", "sd2": "SD2.x", "sdxl": "SDXL"}
    description = describe(tiny_controlnet("sd1"), {}, 4)
    for family, config in unets.items():
        net = type(description)("ControlNet", {**description.config, **config}, "net")
        for other, unet in unets.items():
            if other != family:
                told = misfit(net, unet, other, 8, 4)
                assert told is not None
                assert f"for {names[family]}, and the model is {names[other]}" in told


class Breaks(Plugin):
    """Fails in the second step."""

    name = "breaks"

    @hookimpl
    def step(self, run: Any) -> Any:
        def fail(step: Any, latents: Any) -> None:
            if step.index == 1:
                raise RuntimeError("on purpose")

        return ports.latents_out(fail)


def test_the_engine_is_clean_after_an_error(tmp_path: Path) -> None:
    from sdcore_controlnet import ControlNetPlugin

    from sdcore import Engine, PluginError
    from sdcore.testing.tiny import tiny_folder

    engine = Engine.load(tiny_folder("sd1"), plugins=[ControlNetPlugin, Breaks])
    use = [ControlNet(model=tiny_controlnet("sd1"), image=picture(11))]
    plain, controlled = engine.generate(**SMALL).latents, engine.generate(**SMALL, use=use).latents
    with pytest.raises(PluginError, match="on purpose"):
        engine.generate(**SMALL, use=[*use, "breaks"])
    with pytest.raises(SdcoreError, match="NaN"):
        engine.generate(**SMALL, use=[ControlNet(model=_with_nan(tmp_path), image=picture(11))])
    assert torch.equal(engine.generate(**SMALL).latents, plain)
    assert torch.equal(engine.generate(**SMALL, use=use).latents, controlled)


def test_a_picture_nearly_of_the_aspect_is_taken() -> None:
    nearly = Image.new("RGB", (200, 202), "white")
    engine_for("sd1").generate(**SMALL, use=[ControlNet(model=tiny_controlnet("sd1"), image=nearly)])
