"""Several at once, undo, threads, schedules, branches, blocks, the cache, and replay."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from sdcore_lora import LoRA, LoRAPlugin

from sdcore import Branch, Cancelled, Engine, Plugin, PluginError, RecordError, hookimpl, ports, replay_picture
from sdcore.events import Stepped, Warned
from sdcore.testing.parity import Recorder, ours
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    return [str(tiny_lora(folder / f"{n}.safetensors", "sd1", seed=n, algorithm=a, scale=0.2))
            for n, a in enumerate(("locon", "dora", "lora"))]  # fmt: skip


def test_order_does_not_change_the_result(files: list[str], draw: Any, engine: Any) -> None:
    use = [
        LoRA(path=files[0], weight=0.6),
        LoRA(path=files[1], weight=0.3),
        LoRA(path=files[2], weight=((0, 1), (1, 0))),
    ]
    a, b = draw(engine, *use), draw(engine, *reversed(use))
    assert torch.equal(a, b)
    assert not torch.equal(a, draw(engine, *use[:2]))


class Break(Plugin):
    name = "break"

    @hookimpl
    def step(self, run: Any) -> Any:
        def fail(step: Any, latents: Any) -> None:
            if step.index == 1:
                raise ValueError("no more")

        return ports.latents_out(fail)


@pytest.mark.parametrize("weight", [0.9, ((0.0, 1.0), (1.0, 0.0))])
def test_weights_are_restored_bit_for_bit(
    weight: Any, files: list[str], draw: Any, fields: Any, weights_hash: Any
) -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[LoRAPlugin, Break])
    before, plain = weights_hash(engine), draw(engine)
    use = [LoRA(path=file, weight=weight) for file in files]
    assert not torch.equal(draw(engine, *use), plain)
    assert weights_hash(engine) == before
    with pytest.raises(PluginError, match="no more"):
        draw(engine, *use, "break")
    assert weights_hash(engine) == before

    def cancel(event: Any) -> None:
        if isinstance(event, Stepped):
            event.run.cancel()

    with pytest.raises(Cancelled):
        engine.generate(use=use, on_event=cancel, **fields)
    assert weights_hash(engine) == before
    assert torch.equal(draw(engine), plain)


def test_threads_share_one_engine(files: list[str], draw: Any, engine: Any) -> None:
    mixes: list[list[LoRA]] = [
        [],
        [LoRA(path=files[0])],
        [LoRA(path=files[1], weight=0.5), LoRA(path=files[2], start=0.4)],
    ]
    alone = [draw(engine, *mix) for mix in mixes]
    found: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        found[number] = draw(engine, *mixes[number % 3])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[number], alone[number % 3]) for number in range(6))


def test_weight_zero_is_nothing_and_two_halves_are_one(files: list[str], draw: Any, engine: Any) -> None:
    assert torch.equal(draw(engine, LoRA(path=files[0], weight=0)), draw(engine))
    halves = draw(engine, *[LoRA(path=files[0], weight=0.5)] * 2)
    assert torch.allclose(halves, draw(engine, LoRA(path=files[0])), atol=1e-4)


def test_text_encoder_weight_is_its_own(files: list[str], draw: Any, engine: Any) -> None:
    text = draw(engine, LoRA(path=files[2], weight=0, text_encoder_weight=1))
    unet = draw(engine, LoRA(path=files[2], text_encoder_weight=0))
    both = draw(engine, LoRA(path=files[2]))
    plain = draw(engine)
    found = [text, unet, both, plain]
    assert all(not torch.equal(a, b) for n, a in enumerate(found) for b in found[:n])
    named = draw(engine, LoRA(path=files[2], blocks={"text": 0}))
    assert torch.equal(named, unet)


def test_the_window_of_steps(files: list[str], engine: Any, fields: Any) -> None:
    four = {**fields, "steps": 4, "scheduler": "ddim"}
    plain = ours(engine, **four)
    late = ours(engine, use=[LoRA(path=files[2], start=0.5)], **four)
    early = ours(engine, use=[LoRA(path=files[2], end=0.5, text_encoder_weight=0)], **four)
    whole = ours(engine, use=[LoRA(path=files[2], text_encoder_weight=0)], **four)
    same = [torch.equal(a, b) for a, b in zip(plain.latents, late.latents, strict=True)]
    assert same == [True, True, False, False]
    assert [torch.allclose(a, b, atol=1e-4) for a, b in zip(whole.latents, early.latents, strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_keyframes_are_followed(files: list[str], engine: Any, fields: Any) -> None:
    curve = LoRA(path=files[2], weight=((0.25, 1.0), (0.75, 0.0)), text_encoder_weight=0)
    assert [curve.at(f) for f in (0, 0.25, 0.5, 0.75, 0.9)] == [1, 1, 0.5, 0, 0]
    four = {**fields, "steps": 4, "scheduler": "ddim"}
    whole = ours(engine, use=[LoRA(path=files[2], text_encoder_weight=0)], **four)
    found = ours(engine, use=[curve], **four)
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(whole.latents, found.latents, strict=True)]
    assert same == [True, True, False, False]


class Both(Plugin):
    """The prediction of a branch of its own, which has the conditioning of the prompt."""

    name = "both"

    @hookimpl
    def step(self, run: Any) -> Any:
        return [ports.branches(lambda step: [Branch("cond"), Branch("base", run.conditioning["cond"])]),
                ports.guidance(lambda step, found: found["base"])]  # fmt: skip


def test_only_named_branches(files: list[str], draw: Any, fields: Any) -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[LoRAPlugin, Recorder, Both])
    plain = draw(engine, guidance_scale=1.0)
    assert torch.allclose(draw(engine, "both", LoRA(path=files[0], branches=("cond",))), plain, atol=1e-4)
    assert not torch.allclose(draw(engine, "both", LoRA(path=files[0], branches=("base",))), plain, atol=1e-2)
    cond, uncond, every = (
        draw(engine, LoRA(path=files[0], branches=names, text_encoder_weight=0))
        for names in (("cond",), ("uncond",), ("cond", "uncond"))
    )
    whole = draw(engine, LoRA(path=files[0], text_encoder_weight=0))
    assert torch.allclose(every, whole, atol=1e-3)
    assert not torch.allclose(cond, whole, atol=1e-2)
    assert not torch.allclose(cond, uncond, atol=1e-2)
    events: list[Any] = []
    engine.generate(use=[LoRA(path=files[0], branches=("conf",))], on_event=events.append, **fields)
    told = " ".join(event.message for event in events if isinstance(event, Warned))
    assert "no prediction is called conf in this run; there were cond, uncond" in told
    assert "its text encoder layers are left out" in told


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_block_weights(family: str, draw: Any, engine_of: Any, tmp_path: Path) -> None:
    engine = engine_of(family)
    file = str(tiny_lora(tmp_path / "a.safetensors", family, algorithm="locon"))
    plain = draw(engine)
    parts = {name: draw(engine, LoRA(path=file, blocks={"down": 0, "up": 0, "mid": 0, "text": 0, name: 1}))
             for name in ("down.1", "mid", "up", "up.1", "up.1.0", "text")}  # fmt: skip
    assert all(not torch.equal(found, plain) for found in parts.values())
    assert len({found.sum().item() for found in parts.values()}) == len(parts)
    assert torch.equal(draw(engine, LoRA(path=file, blocks={"down": 0, "up": 0, "mid": 0, "text": 0})), plain)
    # The vectors of lora-block-weight: one block each, by its number in the original layout.
    short, long = (17, 26) if family == "sd1" else (12, 20)
    for length in (short, long):
        middle = [0.0] * length
        middle[{17: 7, 26: 13, 12: 5, 20: 10}[length]] = 1.0
        assert torch.equal(draw(engine, LoRA(path=file, blocks=tuple(middle))), parts["mid"])
        text = (1.0, *[0.0] * (length - 1))
        assert torch.equal(draw(engine, LoRA(path=file, blocks=text)), parts["text"])
    with pytest.raises(Exception, match="block weights is not one for"):
        draw(engine, LoRA(path=file, blocks=(1.0,) * (12 if family == "sd1" else 17)))
    with pytest.raises(Exception, match=r"this U-Net has no block down.7; it has down, down.0"):
        draw(engine, LoRA(path=file, blocks={"down.7": 1}))


def test_blocks_of_sd15_have_the_published_numbers() -> None:
    from sdcore_lora.blocks import VECTORS, factor

    numbers = tuple(float(n) for n in range(17))
    assert VECTORS[17][1:7] == ("IN01", "IN02", "IN04", "IN05", "IN07", "IN08")
    assert factor(numbers, "text_encoder", "encoder.layers.0.mlp.fc1", 2) == 0
    assert factor(numbers, "unet", "down_blocks.0.attentions.1.proj_in", 2) == 2
    assert factor(numbers, "unet", "mid_block.attentions.0.proj_in", 2) == 7
    assert factor(numbers, "unet", "up_blocks.1.attentions.0.proj_in", 2) == 8
    assert factor(numbers, "unet", "up_blocks.3.attentions.2.proj_in", 2) == 16
    assert factor(numbers, "unet", "down_blocks.0.downsamplers.0.conv", 2) == 0  # a block that it leaves out


def test_files_are_read_once_and_again_when_they_change(
    draw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdcore_lora import library

    engine = Engine.load(tiny_folder("sd1"), plugins=[LoRAPlugin])
    file = tiny_lora(tmp_path / "a.safetensors", "sd1")
    read: list[Any] = []
    monkeypatch.setattr(library, "read_tensors", lambda *a, f=library.read_tensors: read.append(a) or f(*a))
    first = draw(engine, LoRA(path=str(file)))
    assert torch.equal(draw(engine, LoRA(path=str(file))), first)
    assert len(read) == 1
    tiny_lora(file, "sd1", seed=1)
    os.utime(file, ns=(1, 1))
    assert not torch.equal(draw(engine, LoRA(path=str(file))), first)
    assert len(read) == 2
    for number in range(library.MOST + 2):
        draw(engine, LoRA(path=str(tiny_lora(tmp_path / f"{number}.safetensors", "sd1", targets=["text"]))), steps=1)
    plugin: Any = engine.host.plugin("lora")
    assert len(plugin._library) == library.MOST


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_replay(layout: str, engine: Any, fields: Any, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    file = tiny_lora(allowed / ("a" if layout == "peft" else "a.safetensors"), "sd1", layout=layout)
    picture = tmp_path / "picture.png"
    use = [LoRA(path=str(file), weight=((0, 1), (1, 0.5)), blocks={"mid": 0.5})]
    engine.generate(use=use, **{**fields, "output": "image"}).save(picture)
    assert str(tmp_path).encode() not in picture.read_bytes()
    moved = file.rename(allowed / ("other" if layout == "peft" else "other.safetensors"))
    assert replay_picture(picture, engine=engine, allow=[allowed]).identical
    with pytest.raises(RecordError, match="allow"):
        replay_picture(picture, engine=engine, allow=[])
    assert moved.exists()


def test_img2img_and_several_pictures(files: list[str], engine: Any, fields: Any) -> None:
    many = {key: value for key, value in fields.items() if key != "seed"}
    two = engine.generate(use=[LoRA(path=files[0], start=0.3)], seeds=[1, 2], **many).latents
    one = engine.generate(use=[LoRA(path=files[0], start=0.3)], seeds=[2], **many).latents
    assert torch.allclose(two[1], one[0], atol=1e-4)


def test_the_refiner(engine_of: Any, fields: Any, rewrite: Any, tmp_path: Path) -> None:
    from PIL import Image

    engine, image = engine_of("refiner"), Image.new("RGB", (32, 32), "red")
    file = tiny_lora(tmp_path / "a.safetensors", "refiner", algorithm="locon")
    named = rewrite(file, tmp_path / "b.safetensors", lambda key: key.replace("lora_te2_", "lora_te_"))
    small = {key: value for key, value in fields.items() if key not in ("height", "width")}
    plain, a, b = (
        engine.generate(use=use, image=image, strength=0.7, **small)
        for use in ([], [LoRA(path=str(file))], [LoRA(path=str(named))])
    )
    assert not torch.equal(plain.latents, a.latents)
    assert torch.equal(a.latents, b.latents)
