"""What cannot work is refused before anything is computed, and says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sdcore_lora import LoRA, read_lora

from sdcore import ModelError, PluginError, RequestError
from sdcore.testing.tiny_lora import tiny_lora


def _refused(engine: Any, path: Path, fields: Any, weights_hash: Any, text: str, **options: Any) -> None:
    before = weights_hash(engine)
    with pytest.raises((RequestError, PluginError, ModelError), match=text):
        engine.generate(use=[LoRA(path=str(path), **options)], **fields)
    assert weights_hash(engine) == before


def test_no_file(engine: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    _refused(engine, tmp_path / "none.safetensors", fields, weights_hash, "no such")
    (tmp_path / "empty").mkdir()
    _refused(engine, tmp_path / "empty", fields, weights_hash, "no LoRA in this folder")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty"),
        (b"\x00\x01", "not a safetensors file"),
        (b"<!doctype html>", "web page"),
        (b"PK\x03\x04abc", "pickle"),
    ],
)
def test_damaged_files(content: bytes, text: str, engine: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    _refused(engine, tmp_path / "a.safetensors", fields, weights_hash, text)


def test_a_truncated_file(engine: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    file = tiny_lora(tmp_path / "a.safetensors", "sd1")
    file.write_bytes(file.read_bytes()[:-100])
    _refused(engine, file, fields, weights_hash, "truncated")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(
    value: float, engine: Any, fields: Any, weights_hash: Any, tmp_path: Path, save: Any
) -> None:
    weights = load_file(tiny_lora(tmp_path / "a.safetensors", "sd1"))
    key = sorted(weights)[7]
    weights[key].view(-1)[0] = value
    _refused(engine, save(tmp_path / "b.safetensors", weights), fields, weights_hash, f"{key} holds NaN or infinity")


@pytest.mark.parametrize(
    ("width", "name"), [(768, "SD1"), (1024, "SD2"), (2048, "SDXL"), (1280, "the SDXL refiner"), (48, "48 wide")]
)
def test_a_file_for_another_family(width: int, name: str, engine: Any, fields: Any, weights_hash: Any, save: Any,
                                   tmp_path: Path) -> None:  # fmt: skip
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    weights = {f"{key}.lora_down.weight": torch.ones(2, width), f"{key}.lora_up.weight": torch.ones(64, 2)}
    file = save(tmp_path / "a.safetensors", weights)
    _refused(engine, file, fields, weights_hash, f"is for .*{name}.* and the model is SD1")


def test_tiny_families_refuse_each_other(engine_of: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    for made_for in ("sdxl", "sd2"):
        file = tiny_lora(tmp_path / f"{made_for}.safetensors", made_for, targets=["attention", "projections"])
        _refused(engine_of("sd1"), file, fields, weights_hash, "is for|does not fit this model")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", "Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_proj.lora_down.weight", "Stable Diffusion 3"),
        ("lora_unet_mid_block_attentions_0_proj_in.oft_blocks", "OFT"),
        ("conv_in.weight", "conv_in.weight"),
    ],
)
def test_files_for_something_else(key: str, name: str, engine: Any, fields: Any, weights_hash: Any, save: Any,
                                  tmp_path: Path) -> None:  # fmt: skip
    file = save(tmp_path / "a.safetensors", {key: torch.ones(2, 2)})
    _refused(engine, file, fields, weights_hash, f"holds no LoRA for Stable Diffusion; .*{name}")
    with pytest.raises(ModelError, match="holds no LoRA"):
        read_lora(file)


def test_layers_that_the_model_does_not_have(
    engine: Any, fields: Any, weights_hash: Any, save: Any, tmp_path: Path
) -> None:
    key = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    weights = {f"{key}.lora_down.weight": torch.ones(2, 1280), f"{key}.lora_up.weight": torch.ones(5120, 2)}
    file = save(tmp_path / "a.safetensors", weights)
    _refused(engine, file, fields, weights_hash, r"none of its 1 layers is in this model \(SD1\); it is for SDXL")


def test_pickles(engine: Any, draw: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    file = tiny_lora(tmp_path / "a.safetensors", "sd1")
    torch.save(load_file(file), tmp_path / "a.bin")
    _refused(engine, tmp_path / "a.bin", fields, weights_hash, "allow_pickle=True")
    a, b = draw(engine, LoRA(path=str(file))), draw(engine, LoRA(path=str(tmp_path / "a.bin"), allow_pickle=True))
    assert torch.equal(a, b)


def test_settings_of_peft_that_are_damaged(engine: Any, fields: Any, weights_hash: Any, tmp_path: Path) -> None:
    folder = tiny_lora(tmp_path / "a", "sd1", layout="peft")
    (folder / "adapter_config.json").write_text("{")
    _refused(engine, folder, fields, weights_hash, "adapter_config.json: cannot be read")
    (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    _refused(engine, folder, fields, weights_hash, "peft_type is IA3; sdcore-lora reads LORA, LOHA and LOKR")


def test_all_problems_come_at_once(engine: Any, fields: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        engine.generate(use=[LoRA(path=str(tmp_path / name)) for name in ("x", "y")], **fields)
    assert "/x" in str(caught.value)
    assert "/y" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": ""}, "path is empty"),
        ({"weight": 21}, "weight is 21"),
        ({"weight": True}, "weight is true or false"),
        ({"weight": float("nan")}, "finite"),
        ({"weight": []}, "no keyframes"),
        ({"weight": [[0.5, 1], [0.2, 1]]}, "they must rise"),
        ({"weight": [[0, 1], [1.5, 1]]}, "from 0 to 1"),
        ({"weight": [[0, 99]]}, "beyond 20"),
        ({"start": 0.6, "end": 0.5}, "it would never be on"),
        ({"blocks": [1, 2, 3]}, "3 block weights; a vector has 12, 17, 20, 26"),
        ({"blocks": {"middle": 1}}, "'middle' is no block"),
        ({"branches": []}, "branches is empty"),
        ({"wieght": 1}, "Did you mean 'weight'"),
    ],
)
def test_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        LoRA(**{"path": "a.safetensors", **options})


def test_options_are_json() -> None:
    used = LoRA(path="a.safetensors", weight=((0, 1), (0.5, 0.2)), blocks=(1.0,) * 17, branches=("cond",), start=0.1)
    assert LoRA.model_validate_json(used.model_dump_json()) == used
    LoRA.model_json_schema()
