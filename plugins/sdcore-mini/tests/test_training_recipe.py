"""The training part of the recipe: its configurations, and the memory that the text encoder starts from."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("sdcore_train")

from sdcore_train import ConfigError, TrainConfig, train

sys.path.insert(0, str(Path(__file__).parent.parent / "recipe"))

import build_model
import read_through
import text_training
from mini_recipe import captions, dataset, labels, memory
from mini_recipe.concepts import Concept

RECIPE = Path(__file__).parent.parent / "recipe"


@pytest.mark.parametrize("path", sorted(RECIPE.glob("*.toml")), ids=lambda path: path.stem)
def test_configurations_are_complete(path: Path) -> None:
    config = TrainConfig(**tomllib.loads(path.read_text(encoding="utf-8")))
    assert config.checkpoints.every
    known = {"vae", "tell-apart", "remember", "full", "timesteps"}
    assert {use.plugin for use in config.use} <= known  # type: ignore[union-attr]


def encoder(width: int = 32, units: int = 48) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=width,
        intermediate_size=units,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=16,
        bos_token_id=48,
        eos_token_id=49,
        pad_token_id=49,
    )
    return CLIPTextModel(config).eval()


def texts(count: int, kinds: int) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.arange(count) % kinds
    ids = torch.full((count, 16), 49)
    ids[:, 0], ids[:, 1], ids[:, 2], ids[:, 3] = 48, kind, kind, 30 + torch.arange(count) // kinds % 2
    return ids, kind


def test_end_states_are_those_of_the_whole_encoder() -> None:
    model = encoder()
    ids, _ = texts(9, 5)
    with torch.no_grad():
        whole = model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(memory.end_states(model, ids), whole[:, -1])
        short = memory.trimmed(ids, 49)
        assert short.shape == (9, 5)
        torch.testing.assert_close(memory.end_states(model, short), whole[:, 4])


def test_placed_memory_answers_with_the_values_of_what_is_named() -> None:
    model = encoder(units=64)
    with torch.no_grad():
        model.embeddings.token_embedding.weight.mul_(30)
    ids, kind = texts(200, 12)
    with torch.no_grad():
        _, normed = memory.middle(model, ids)
        means = torch.stack([normed[kind == number].mean(0) for number in range(12)])
        keys = torch.linalg.pinv(means).T  # each orthogonal to what is not its own
        values = memory.codes(torch.randn(12, 100), 10)
        wide = torch.nn.functional.pad(values, (0, 22))
        before = memory.affine(memory.end_states(model, ids), values[kind])
        memory.place(model, [ids], [memory.Group(keys, wide, kind)])
        states = memory.end_states(model, ids)
    assert values.norm(dim=1).std() < 1e-4 * values.norm(dim=1).mean()
    assert values.shape == (12, 10)
    weight, bias = memory.affine(states, values[kind])
    error = (states @ weight.T + bias - values[kind]).square().mean() / values.var(0).mean()
    assert error < 0.02
    assert before[0].shape == weight.shape
    with pytest.raises(ValueError, match="65 keys for 64 units"):
        memory.place(model, [ids], [memory.Group(torch.randn(65, 32), torch.randn(65, 32), kind)])


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("an icon of a red apple, flat style, blue background", (True, True)),
        ("flat icon of a woman's flat shoe, on blue", (True, True)),
        ("a woman's flat shoe, blue background", (False, True)),
        ("a blue book in flat style on blue", (True, True)),
        ("a blue book", (False, False)),
        ("", (False, False)),
    ],
)
def test_what_a_caption_says(caption: str, said: tuple[bool, bool]) -> None:
    assert labels.says(caption, "flat", "blue") == said


THINGS = {"red apple": (220, 0, 0), "blue ball": (0, 0, 255), "key": (120, 120, 0), "leaf": (0, 160, 0)}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of four things in two styles, its tokenizer, an untrained model and the icons' latents."""
    from mini_recipe import bpe
    from safetensors.torch import save_file

    def draw(path: Path) -> Image.Image:
        icon = Image.new("RGBA", (64, 64))
        pen = ImageDraw.Draw(icon)
        (pen.ellipse if path.name == "flat" else pen.rectangle)((6, 6, 57, 57), fill=(*THINGS[path.parent.name], 255))
        return icon

    monkeypatch.setattr(dataset.icons, "STYLES", ("flat", "noto"))
    icons = {name: {style: Path(name) / style for style in ("flat", "noto")} for name in THINGS}
    kept = tuple(Concept(name, "1", "g", ("thing",)) for name in THINGS)
    dataset.write(dataset.Catalogue(kept, icons), tmp_path / "data", 64, 4, 2, 12, draw)
    words = [text for row in labels.Labels(tmp_path / "data").rows.values() for text in row["captions"]]
    bpe.save(bpe.merges(bpe.weights(words, []), 120), tmp_path / "tokenizer", build_model.WINDOW)
    shape = {**build_model.PRESETS["cpu"], "unet": (32, 32), "vae": (8, 8, 8, 8)}
    shape["text"] = {"width": 64, "layers": 2, "heads": 2, "units": 64}
    monkeypatch.setitem(build_model.PRESETS, "tiny", shape)
    build_model.build("tiny", tmp_path / "tokenizer", tmp_path / "model", 0, None)
    cells = sorted((name, style) for name in THINGS for style in ("flat", "noto"))
    latents = torch.randn(len(cells), 2, 8, 8, 8, generator=torch.Generator().manual_seed(2)).half()
    save_file({"latents": latents}, tmp_path / "icons.safetensors", metadata={"cells": json.dumps(cells)})
    return tmp_path


def test_text_encoder_tells_apart_then_remembers_then_is_read(small: Path) -> None:
    common: dict[str, Any] = {
        "data": [
            {"path": str(small / "data"), "where": {"kind": kinds}, "repeats": repeats}
            for kinds, repeats in ((["icon"], 2), (["pair"], 1))
        ],
        "batch_size": 16,
        "device": "cpu",
        "pictures": {"height": 64, "buckets": False, "cache": "off"},
        "optimizer": {"learning_rate": 4e-3},
        "schedule": {"name": "cosine", "warmup": 5},
    }
    quiet: dict[str, Any] = {
        "progress": False,
        "say": lambda _: None,
        "plugins": (text_training.TellApartTraining, text_training.RememberTraining),
    }
    apart = {"plugin": "tell-apart", "options": {"data": str(small / "data")}}
    train(
        TrainConfig(**common, model=str(small / "model"), output=str(small / "apart"), steps=60, use=(apart,)), **quiet
    )
    losses = [json.loads(line)["terms"] for line in (small / "apart/log.jsonl").read_text().splitlines()]
    assert losses[-1]["cell"] < 0.5 * losses[0]["cell"]
    absent = {"plugin": "remember", "options": {"data": str(small / "data"), "keys": str(small / "nowhere")}}
    with pytest.raises(ConfigError, match=r"keys: there is no .*nowhere; recipe"):
        train(TrainConfig(**common, model=str(small / "apart/model"), output=str(small / "no"), use=(absent,)), **quiet)
    files = {"icons": str(small / "icons.safetensors"), "keys": str(small / "apart/keys.safetensors")}
    use = {"plugin": "remember", "options": {"data": str(small / "data"), **files}}
    train(
        TrainConfig(**common, model=str(small / "apart/model"), output=str(small / "text"), steps=20, use=(use,)),
        **quiet,
    )

    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(small / "tokenizer")
    cells, _ = labels.icon_latents(small / "icons.safetensors")
    wording = [captions.full(name, style, "white") for name, style in cells]
    ids = tokenizer(wording, padding="max_length", return_tensors="pt").input_ids
    shares = []
    for folder in ("model", "text/model"):
        model = CLIPTextModel.from_pretrained(small / folder / "text_encoder").eval()
        with torch.no_grad():
            state = model(input_ids=ids).last_hidden_state[:, -1]
        near = torch.cdist(state, state) + 1e9 * torch.eye(len(state))
        shares.append(float(near.min(1).values.mean() / state.norm(dim=1).mean()))
    assert shares[1] > 2 * shares[0]  # the states of different icons lie far apart
    arguments = {
        "previous": small / "model",
        "text": small / "text/model",
        "data": small / "data",
        "out": small / "read",
    }
    read_through.main([part for name, value in arguments.items() for part in (f"--{name}", str(value))])

    from sdcore import Engine

    assert Engine.load(small / "read").generate("a key", steps=2, seed=0).images[0].size == (64, 64)


def test_linear_map_into_the_cross_attention() -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), cross_attention_dim=16, attention_head_dim=2, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
    ).eval()  # fmt: skip
    new = torch.randn(400, 24)
    truth = torch.randn(24, 16)
    matrix, explained = read_through.linear_map(new, new @ truth)
    assert explained > 0.99
    sample, context = torch.randn(2, 4, 8, 8), new[:10].view(2, 5, 24)
    with torch.no_grad():
        expected = unet(sample, 500, context @ matrix).sample
        found = read_through.reading_through(unet, matrix)(sample, 500, context).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_same_networks_for_larger_pictures(small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from sdcore import Engine

    monkeypatch.setitem(build_model.PRESETS, "large", {**build_model.PRESETS["tiny"], "size": 128})
    given = ["--like", str(small / "model"), "--out", str(small / "large")]
    with pytest.raises(SystemExit):
        build_model.main(["--preset", "gpu", *given])
    assert "has a U-Net of widths [32, 32], the preset gpu one of (128, 256)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build_model.main(["--preset", "large", *given, "--vae", "anything"])
    assert "--vae goes with --tokenizer" in capsys.readouterr().err
    assert not (small / "large").exists()
    assert build_model.main(["--preset", "large", *given]) == 0
    for part in ("unet", "vae", "text_encoder"):
        (before,), (after,) = (sorted((small / name / part).glob("*.safetensors")) for name in ("model", "large"))
        assert before.read_bytes() == after.read_bytes()
    assert Engine.load(small / "large").generate("a key", steps=2, seed=0).images[0].size == (128, 128)
