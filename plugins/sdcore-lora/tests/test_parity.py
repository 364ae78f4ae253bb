"""The same files, loaded by sdcore and by diffusers with peft; latents compared at every step."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from sdcore_lora import LoRA
from sdcore_lora.changes import changes_of
from sdcore_lora.library import plan_of_model, read_entry

from sdcore.quiet import quiet
from sdcore.testing.parity import difference, ours, theirs
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora

PIPES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
SIZE = 0.15
pytestmark = pytest.mark.filterwarnings("ignore")


@functools.cache
def pipe_of(family: str) -> Any:
    with quiet():
        return getattr(diffusers, PIPES[family]).from_pretrained(tiny_folder(family))


def both(engine: Any, family: str, files: list[tuple[Path, float]], fields: dict[str, Any], use: Any = None) -> float:
    pipe = pipe_of(family)
    names = [f"a{number}" for number in range(len(files))]
    other = {key: value for key, value in fields.items() if key not in ("steps", "seed", "output")}
    try:
        with quiet():
            for name, (file, _) in zip(names, files, strict=True):
                pipe.load_lora_weights(str(file), adapter_name=name)
            pipe.set_adapters(names, [weight for _, weight in files])
        expected = theirs(pipe, [1], num_inference_steps=fields["steps"], **other)
    finally:
        pipe.unload_lora_weights()
    use = use or [LoRA(path=str(file), weight=weight) for file, weight in files]
    plain = ours(engine, **fields)
    assert difference(plain, expected) > 1e-2  # the files do something
    return difference(ours(engine, use=use, **fields), expected)


@pytest.mark.parametrize("family", list(PIPES))
@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_one_with_convolutions_and_a_weight(
    family: str, layout: str, engine_of: Any, fields: Any, tmp_path: Path
) -> None:
    file = tiny_lora(tmp_path / "a.safetensors", family, layout=layout, algorithm="locon", scale=SIZE)
    assert both(engine_of(family), family, [(file, 0.7)], fields) < 1e-5


@pytest.mark.parametrize("family", list(PIPES))
def test_several_with_weights_of_either_layout(family: str, engine_of: Any, fields: Any, tmp_path: Path) -> None:
    first = tiny_lora(tmp_path / "a.safetensors", family, layout="kohya", scale=SIZE)
    second = tiny_lora(tmp_path / "b.safetensors", family, layout="diffusers", seed=1, rank=2, scale=SIZE)
    assert both(engine_of(family), family, [(first, 0.8), (second, -0.4)], fields) < 1e-5


@pytest.mark.parametrize("family", list(PIPES))
def test_beside_the_layers(family: str, engine_of: Any, fields: Any, tmp_path: Path) -> None:
    file = tiny_lora(tmp_path / "a.safetensors", family, algorithm="locon", scale=SIZE)
    use = [LoRA(path=str(file), weight=((0.0, 0.7), (1.0, 0.7 + 1e-9)))]
    assert both(engine_of(family), family, [(file, 0.7)], fields, use) < 1e-5


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_dora(family: str, engine_of: Any, fields: Any, tmp_path: Path) -> None:
    # At other weights than 1 diffusers puts the weight inside the norm, so that weight 0 is not the model itself.
    targets = ("attention", "feed-forward", "convolutions")
    file = tiny_lora(
        tmp_path / "a.safetensors", family, layout="diffusers", algorithm="dora", targets=targets, scale=SIZE
    )
    assert both(engine_of(family), family, [(file, 1.0)], fields) < 1e-5


def test_sdxl_in_the_names_of_the_original_layout(engine_of: Any, fields: Any, tmp_path: Path, rewrite: Any) -> None:
    engine = engine_of("sdxl")
    plain = tiny_lora(tmp_path / "a.safetensors", "sdxl", algorithm="locon", scale=SIZE)
    file = rewrite(plain, tmp_path / "b.safetensors", lambda key: _to_sgm(key, 1))
    assert any("input_blocks_" in key for key in load_file(file))
    assert both(engine, "sdxl", [(file, 0.7)], fields) < 1e-5
    a = ours(engine, use=[LoRA(path=str(plain))], **fields)
    b = ours(engine, use=[LoRA(path=str(file))], **fields)
    assert difference(a, b) == 0


def _to_sgm(key: str, layers: int) -> str:
    """Independently of the package: a kohya key of the U-Net with the names of the original layout."""
    found = re.match(r"lora_unet_(down|up)_blocks_(\d+)_(\w+?)_(\d+)_?(.*)", key)
    inner = {"conv1": "in_layers_2", "conv2": "out_layers_3", "conv_shortcut": "skip_connection"}
    if found:
        side, block, kind, layer, rest = found.groups()
        module, dot, part = rest.partition(".")
        rest = inner.get(module, module) + dot + part
        if kind.endswith("samplers"):
            number = int(block) * (layers + 1) + layers + (side == "down")
            if side == "down":
                return f"lora_unet_input_blocks_{number}_0_op{dot}{part}"
            # A block without attention has its upsampling at place 1.
            place = 1 if not int(block) < 2 else 2
            return f"lora_unet_output_blocks_{number}_{place}_conv{dot}{part}"
        number = int(block) * (layers + 1) + int(layer) + (side == "down")
        where = "input" if side == "down" else "output"
        return f"lora_unet_{where}_blocks_{number}_{int(kind == 'attentions')}_{rest}"
    if key.startswith("lora_unet_mid_block_"):
        rest = key.removeprefix("lora_unet_mid_block_")
        for old, new in (("resnets_0_", "0_"), ("attentions_0_", "1_"), ("resnets_1_", "2_")):
            if rest.startswith(old):
                module, dot, part = rest.removeprefix(old).partition(".")
                return f"lora_unet_middle_block_{new}{inner.get(module, module)}{dot}{part}"
    return key


@pytest.mark.parametrize("algorithm", ["lora", "locon", "dora", "loha", "lokr"])
def test_folders_of_peft(algorithm: str, engine: Any, fields: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    folder = tiny_lora(tmp_path / "a", "sd1", layout="peft", algorithm=algorithm, scale=SIZE)
    if algorithm == "dora":  # ranks and alphas of their own for some modules
        config = json.loads((folder / "adapter_config.json").read_text())
        config["alpha_pattern"] = {"attn1.to_q": 3.0}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    pipe = pipe_of("sd1")
    own = pipe.unet
    other = {key: value for key, value in fields.items() if key not in ("steps", "seed", "output")}
    try:
        pipe.unet = PeftModel.from_pretrained(copy.deepcopy(own), folder)
        expected = theirs(pipe, [1], num_inference_steps=fields["steps"], **other)
    finally:
        pipe.unet = own
    assert difference(ours(engine, **fields), expected) > 1e-2
    assert difference(ours(engine, use=[LoRA(path=str(folder))], **fields), expected) < 1e-5


@pytest.mark.parametrize("kind", ["loha", "lokr"])
@pytest.mark.parametrize("tucker", [False, True])
def test_changes_are_those_of_peft(kind: str, tucker: bool, engine: Any, tmp_path: Path) -> None:
    from peft import LoHaConfig, LoKrConfig, get_peft_model

    config = {"loha": LoHaConfig, "lokr": LoKrConfig}[kind](
        r=2,
        alpha=3,
        target_modules=["to_q", "to_k", "conv1", "ff.net.2"],
        use_effective_conv2d=tucker,
        init_weights=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(copy.deepcopy(engine.model.unet), config)
    model.save_pretrained(tmp_path / "a")
    entry = read_entry(tmp_path / "a", plan_of_model(engine.model))
    assert not entry.binding.unused
    changes = changes_of(entry)
    assert len(changes) > 20
    for change in changes:
        name = change.bound.parameter
        layer = model.base_model.model.get_submodule(name)
        expected = layer.get_delta_weight("default")
        found = change.of_weight(engine.model.unet.get_submodule(name).weight)
        assert torch.allclose(found, expected, atol=1e-6), name
