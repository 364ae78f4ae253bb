"""Every algorithm, merged and beside the layers, against formulas written down a second time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sdcore_lora import LoRA
from sdcore_lora.deltas import delta, with_magnitude
from sdcore_lora.paths import side_path
from sdcore_lora.scales import scale_of

from sdcore.testing.tiny_lora import tiny_lora

OUT, IN, R = 12, 8, 2


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + len(shape)))


def _loha(inside: int) -> dict[str, torch.Tensor]:
    return {"hada_w1_a": _random(OUT, R), "hada_w1_b": _random(R, inside), "hada_w2_a": _random(OUT, R) * 0.5,
            "hada_w2_b": _random(R, inside) * 0.3}  # fmt: skip


CASES: dict[str, tuple[str, bool, dict[str, torch.Tensor]]] = {
    "lora": ("lora", False, {"down": _random(R, IN), "up": _random(OUT, R)}),
    "lora as a convolution": ("lora", False, {"down": _random(R, IN, 1, 1), "up": _random(OUT, R, 1, 1)}),
    "lora with a bias": ("lora", False, {"down": _random(R, IN), "up": _random(OUT, R), "up_bias": _random(OUT)}),
    "locon": ("lora", True, {"down": _random(R, IN, 3, 3), "up": _random(OUT, R, 1, 1)}),
    "locon cp": ("lora", True, {"down": _random(R, IN, 1, 1), "mid": _random(3, R, 3, 3), "up": _random(OUT, 3, 1, 1)}),
    "loha": ("loha", False, _loha(IN)),
    "loha of a convolution": ("loha", True, _loha(IN * 9)),
    "loha tucker": ("loha", True, {"hada_w1_a": _random(R, OUT), "hada_w1_b": _random(R, IN),
                                   "hada_t1": _random(R, R, 3, 3),
                                   "hada_w2_a": _random(R, OUT), "hada_w2_b": _random(R, IN),
                                   "hada_t2": _random(R, R, 3, 3) * 0.5}),
    "lokr": ("lokr", False, {"lokr_w1": _random(3, 2), "lokr_w2": _random(4, 4)}),
    "lokr decomposed": ("lokr", False, {"lokr_w1_a": _random(3, R), "lokr_w1_b": _random(R, 2),
                                        "lokr_w2_a": _random(4, R), "lokr_w2_b": _random(R, 4)}),
    "lokr of a convolution": ("lokr", True, {"lokr_w1": _random(3, 2), "lokr_w2": _random(4, 4, 3, 3)}),
    "lokr of a convolution, folded": ("lokr", True, {"lokr_w1": _random(3, 2), "lokr_w2_a": _random(4, R),
                                                     "lokr_w2_b": _random(R, 36)}),
    "lokr tucker": ("lokr", True, {"lokr_w1": _random(3, 2), "lokr_t2": _random(R, R, 3, 3), "lokr_w2_a": _random(R, 4),
                                   "lokr_w2_b": _random(R, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_beside_a_layer_is_the_same_as_in_its_weight(case: str) -> None:
    algorithm, convolution, parts = CASES[case]
    with torch.random.fork_rng():
        layer = torch.nn.Conv2d(IN, OUT, 3, stride=2, padding=1) if convolution else torch.nn.Linear(IN, OUT)
    hidden = _random(2, IN, 6, 6) if convolution else _random(2, 5, IN)
    path = side_path(algorithm, parts, 0.7, layer)
    assert path is not None
    change = 0.7 * delta(algorithm, parts, layer.weight)
    bias = 0.7 * parts["up_bias"] if "up_bias" in parts else None
    if convolution:
        expected = torch.nn.functional.conv2d(hidden, change, None, 2, 1)
    else:
        expected = torch.nn.functional.linear(hidden, change, bias)
    assert expected.abs().max() > 0.1
    assert torch.allclose(path(hidden), expected, atol=1e-4)


def test_tucker_by_the_definition() -> None:
    _, _, parts = CASES["locon cp"]
    hidden = _random(1, IN, 5, 5)
    steps = torch.nn.functional.conv2d(hidden, parts["down"])
    steps = torch.nn.functional.conv2d(steps, parts["mid"], padding=1)
    steps = torch.nn.functional.conv2d(steps, parts["up"])
    whole = delta("lora", parts, torch.zeros(OUT, IN, 3, 3))
    assert torch.allclose(torch.nn.functional.conv2d(hidden, whole, padding=1), steps, atol=1e-4)


@pytest.mark.parametrize("outputs", [OUT, IN])  # attention projects to its own width: square
@pytest.mark.parametrize("by_input", [False, True])
def test_dora_gives_rows_or_columns_their_lengths(by_input: bool, outputs: int) -> None:
    weight, change = _random(outputs, IN), _random(outputs, IN) * 0.2
    lengths = torch.rand(IN if by_input else outputs, generator=torch.Generator().manual_seed(0)) + 0.5
    new = weight + with_magnitude(weight, change, lengths[None] if by_input else lengths[:, None])
    assert torch.allclose(new.norm(dim=0 if by_input else 1), lengths, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["lora", "locon", "loha", "lokr", "dora"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_schedule_that_is_level_equals_a_merge(
    algorithm: str, family: str, draw: Any, engine_of: Any, tmp_path: Path
) -> None:
    engine = engine_of(family)
    file = str(tiny_lora(tmp_path / "a.safetensors", family, algorithm=algorithm, rank=2, scale=0.1))
    merged = draw(engine, LoRA(path=file, weight=0.5))
    beside = draw(engine, LoRA(path=file, weight=((0, 0.5), (1, 0.5 + 1e-9))))
    assert (merged - draw(engine)).abs().max() > 0.05
    assert (merged - beside).abs().max() < 2e-4


def test_whole_changes_biases_and_norms_of_lycoris(draw: Any, engine: Any, save: Any, tmp_path: Path) -> None:
    unet = engine.model.unet.state_dict()
    name = "mid_block.attentions.0.proj_in"
    plain = name.replace(".", "_")
    tensors = {
        f"lora_unet_{plain}.diff": 0.5 * unet[f"{name}.weight"],
        f"lora_unet_{plain}.diff_b": 0.5 * unet[f"{name}.bias"],
        "lora_unet_mid_block_resnets_0_norm1.w_norm": torch.full((64,), 0.5),
        "lora_unet_mid_block_resnets_0_norm1.b_norm": torch.full((64,), 0.5),
    }
    whole = draw(engine, LoRA(path=str(save(tmp_path / "a.safetensors", tensors))))
    for key in tensors:
        part = save(tmp_path / "part.safetensors", {key: tensors[key]})
        found = draw(engine, LoRA(path=str(part)))
        assert not torch.equal(found, draw(engine)), key
        assert not torch.equal(found, whole), key
        part.unlink()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str, draw: Any, engine: Any, tmp_path: Path) -> None:
    full = tiny_lora(tmp_path / "a.safetensors", "sd1")
    half = tiny_lora(tmp_path / "b.safetensors", "sd1", dtype=dtype)
    a, b = (draw(engine, LoRA(path=str(file))) for file in (full, half))
    assert not torch.equal(a, b)
    assert (a - b).abs().mean() < 0.05 * (a - draw(engine)).abs().mean()


def test_scales() -> None:
    whole = {"lokr_w1": (3, 2), "lokr_w2": (4, 4)}
    parted = {"lokr_w1": (3, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)}
    low = {"down": (4, 8), "up": (12, 4)}
    assert scale_of("lokr", whole, 8.0, {}, "x") == 1  # LyCORIS writes an alpha that it does not use
    assert scale_of("lokr", whole, None, {"r": 4, "alpha": 8}, "x") == 2  # peft uses it
    assert scale_of("lokr", parted, 3.0, {}, "x") == 1.5
    assert scale_of("lora", low, 2.0, {}, "x") == 0.5
    assert scale_of("lora", low, None, {}, "x") == 1
    settings = {"r": 8, "lora_alpha": 8, "rank_pattern": {"attn1.to_q": 4}, "alpha_pattern": {"to_q": 2}}
    assert scale_of("lora", low, None, settings, "mid.attn1.to_q") == 0.5
    assert scale_of("lora", low, None, settings, "mid.attn1.to_k") == 1
    assert scale_of("lora", low, None, {"r": 4, "lora_alpha": 4, "use_rslora": True}, "x") == 2
    assert scale_of("full", {"diff": (3, 2)}, 8.0, {}, "x") == 1
