"""A ControlNet begins as nothing, learns as in diffusers' script, leaves the U-Net alone, and loads everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sdcore_controlnet import ControlNet, ControlNetPlugin
from sdcore_train import ConfigError, generator

from sdcore import Engine

from .kit import WIDTHS, Look, config, run, state_of


def added_of(seen: Any) -> dict[str, Any]:
    conditioning = seen.conditioning
    if conditioning.pooled is None:
        return {}
    return {"added_cond_kwargs": {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_first_step(tmp_path: Path, data: Path, family: str) -> None:
    """An untrained net changes nothing; loss and gradients are those of examples/controlnet/train_controlnet.py."""
    from diffusers import ControlNetModel

    model, result = run(config(tmp_path, data, family))
    seen = Look.seen
    unet: Any = model.unet
    with torch.no_grad():
        alone = unet(seen.noisy, seen.timesteps, seen.conditioning.context, **added_of(seen)).sample
    assert torch.equal(alone, seen.prediction)  # bit for bit
    before = state_of(family)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())

    with torch.random.fork_rng():
        torch.manual_seed(generator(0, "controlnet").initial_seed())
        theirs = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=WIDTHS)
    controls = seen.batch.extra["controlnet"]
    assert controls.shape == (3, 3, 32, 32)
    assert set(controls.unique().tolist()) <= {0.0, 1.0}
    assert 0.01 < float(controls.mean()) < 0.9
    down, mid = theirs(
        seen.noisy,
        seen.timesteps,
        encoder_hidden_states=seen.conditioning.context,
        controlnet_cond=controls,
        return_dict=False,
        **added_of(seen),
    )
    prediction = unet(
        seen.noisy,
        seen.timesteps,
        encoder_hidden_states=seen.conditioning.context,
        down_block_additional_residuals=list(down),
        mid_block_additional_residual=mid,
        return_dict=False,
        **added_of(seen),
    )[0]
    loss = torch.nn.functional.mse_loss(prediction.float(), seen.target.float(), reduction="mean")
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    # Plain descent with a rate of 0.1: how far a weight moved is its gradient.
    start = {name: value.detach().clone() for name, value in theirs.named_parameters()}
    ours = dict(ControlNetModel.from_pretrained(tmp_path / "out" / "controlnet").named_parameters())
    moved = 0.0
    for name, value in theirs.named_parameters():
        gradient = (start[name] - ours[name].detach()) / 0.1
        assert float((gradient - value.grad).abs().max()) < 1e-5, name
        moved = max(moved, float(value.grad.abs().max()) if "controlnet_down" in name else 0.0)
    assert moved > 1e-3


def test_it_learns_to_follow_the_control(tmp_path: Path) -> None:
    """Overfitting four pictures of the embedded model, without captions: the control alone tells which is which."""
    pytest.importorskip("sdcore_mini")
    from diffusers import ControlNetModel
    from PIL import ImageDraw

    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        left, top = 4 + 30 * (number % 2), 4 + 30 * (number // 2)
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).rectangle((left, top, left + 25, top + 25), fill="red")
        picture.save(folder / f"{number}.png")
    made = config(
        tmp_path, [{"path": str(folder), "caption": ""}], model="mini", steps=80, batch_size=4,
        options={"embedding_channels": [8, 16, 32, 64]}, more=["timesteps:start=0.9,end=0.91"],
        pictures={"height": 64, "cache": "memory"}, schedule={"name": "cosine"},
        optimizer={"name": "adamw", "learning_rate": 4e-3, "betas": (0.9, 0.99)},
    )  # fmt: skip
    model, _ = run(made)
    seen, net, unet = Look.seen, ControlNetModel.from_pretrained(tmp_path / "out" / "controlnet"), model.unet

    @torch.no_grad()
    def loss(controls: Any) -> float:
        context = seen.conditioning.context
        down, mid = net(seen.noisy, seen.timesteps, context, controlnet_cond=controls, return_dict=False)
        residuals = {"down_block_additional_residuals": list(down), "mid_block_additional_residual": mid}
        return float((unet(seen.noisy, seen.timesteps, context, **residuals).sample - seen.target).pow(2).mean())

    controls = seen.batch.extra["controlnet"]
    at_first = float((seen.prediction.detach() - seen.target).pow(2).mean())
    assert loss(controls) < 0.5 * at_first
    assert loss(controls.roll(1, 0)) > 1.5 * loss(controls)  # another picture's edges mislead it
    assert loss(torch.zeros_like(controls)) > 1.1 * loss(controls)


def test_a_scaled_embedding_lets_lines_through() -> None:
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
    from sdcore_controlnet.training.controlnet import keep_size

    picture = torch.zeros(1, 3, 64, 64)
    picture[:, :, 20, 10:50] = 1  # a line of one pixel

    def seen(embedding: Any) -> float:
        """How much the picture changes what the last layer is given."""
        silu = torch.nn.functional.silu
        with torch.no_grad():
            hidden = [silu(embedding.conv_in(x)) for x in (picture, torch.zeros_like(picture))]
            for block in embedding.blocks:
                hidden = [silu(block(x)) for x in hidden]
        return float((hidden[0] - hidden[1]).std() / picture.std())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        embedding = ControlNetConditioningEmbedding(128, block_out_channels=(16, 32, 64, 128))
        plain = seen(embedding)
        keep_size(embedding)
    assert plain < 0.003
    assert seen(embedding) > 0.2
    assert not embedding.conv_out.weight.any()  # step 0 is still the base
    assert not embedding.conv_out.bias.any()


def test_the_folder_is_used_by_the_engine(tmp_path: Path, data: Path) -> None:
    model, _ = run(config(tmp_path, data, steps=2))
    folder = tmp_path / "out" / "controlnet"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text())
    engine = Engine(model, plugins=[ControlNetPlugin])
    fields: dict[str, Any] = {"seed": 1, "steps": 2, "height": 32, "width": 32, "output": "latent"}
    without = engine.generate("a red apple", **fields).latents
    use = [ControlNet(model=str(folder), image=Image.open(data / "0.png"), preprocess="canny")]
    assert not torch.equal(without, engine.generate("a red apple", use=use, **fields).latents)


def test_bfloat16(tmp_path: Path, data: Path) -> None:
    run(config(tmp_path / "exact", data))
    expected = Look.seen.prediction.detach().float()
    run(config(tmp_path / "half", data, precision="bf16"))
    found = Look.seen.prediction.detach().float()
    assert 0 < float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_two_nets_add_up(tmp_path: Path, data: Path) -> None:
    """A ControlNet and a T2I-Adapter in one training see control pictures of their own, and both learn."""
    more = [{"plugin": "t2i-adapter", "options": {"preprocess": "blur", "dtype": "float32"}}]
    _, result = run(config(tmp_path, data, more=more))
    extra = Look.seen.batch.extra
    assert set(extra) == {"controlnet", "t2i-adapter"}
    assert not torch.equal(extra["controlnet"], extra["t2i-adapter"])
    assert {path.name for path in result.files} == {"controlnet", "t2i-adapter"}


def test_going_on(tmp_path: Path, data: Path) -> None:
    """`start` takes the weights of a net, and only of one that fits."""
    from diffusers import ControlNetModel

    run(config(tmp_path, data, steps=3))
    start = tmp_path / "out" / "controlnet"
    still = {"name": "sgd", "learning_rate": 0.0, "betas": (0.0, 0.999)}
    options = {"start": str(start), "name": "more"}
    run(config(tmp_path, data, options=options, output=str(tmp_path / "more"), optimizer=still))
    before = ControlNetModel.from_pretrained(start).state_dict()
    after = ControlNetModel.from_pretrained(tmp_path / "more" / "more").state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert float(before["controlnet_down_blocks.0.weight"].abs().max()) > 0

    with pytest.raises(ConfigError, match=r"start: .*use one made for SDXL"):
        run(config(tmp_path, data, "sdxl", options={"start": str(start)}, output=str(tmp_path / "xl")))
    with pytest.raises(ConfigError, match=r"it is a ControlNet; this trains a T2I-Adapter"):
        run(config(tmp_path, data, method="t2i-adapter", options={"start": str(start)}, output=str(tmp_path / "t2i")))


def test_resuming_is_bit_identical(tmp_path: Path, data: Path) -> None:
    from safetensors.torch import load_file

    fields: dict[str, Any] = {
        "options": {"vary": {"low": [20, 90]}, "dropout": 0.3},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "checkpoints": {"every": 2},
    }
    run(config(tmp_path, data, steps=4, output=str(tmp_path / "whole"), **fields))
    run(config(tmp_path, data, steps=2, output=str(tmp_path / "parts"), **fields))
    run(config(tmp_path, data, steps=4, output=str(tmp_path / "parts"), **fields), resume=True)
    name = "controlnet/diffusion_pytorch_model.safetensors"
    whole, parts = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


def test_samples_show_controls(tmp_path: Path, data: Path) -> None:
    request = {"steps": 1, "guidance_scale": 1.0}
    run(config(tmp_path, data, samples={"every": 1, "request": request}))
    (sheet,) = sorted((tmp_path / "out" / "samples").glob("step-*.png"))
    with Image.open(sheet) as image:
        assert image.width > 3 * 32
