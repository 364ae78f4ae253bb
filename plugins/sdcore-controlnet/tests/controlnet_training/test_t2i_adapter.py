"""A T2I-Adapter is trained as in diffusers' script, and used by the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sdcore_controlnet import ControlNet, ControlNetPlugin
from sdcore_train import ConfigError, generator

from sdcore import Engine

from .kit import Look, config, run, state_of


@pytest.mark.parametrize(
    ("family", "kind", "settings"),
    [
        ("sd1", "full", {"adapter_type": "full_adapter", "channels": [32, 64, 64], "downscale_factor": 4}),
        ("sd1", "light", {"adapter_type": "light_adapter", "channels": [32, 64], "downscale_factor": 4}),
        ("sd2", "full", {"adapter_type": "full_adapter", "channels": [32, 64, 128], "downscale_factor": 4}),
        ("sdxl", "full", {"adapter_type": "full_adapter_xl", "channels": [32, 64, 128, 128], "downscale_factor": 8}),
    ],
)
def test_first_step(tmp_path: Path, data: Path, family: str, kind: str, settings: dict[str, Any]) -> None:
    """Loss and gradients are those of examples/t2i_adapter; the U-Net stays; the engine takes the folder."""
    from diffusers import T2IAdapter

    model, result = run(config(tmp_path, data, family, "t2i-adapter", options={"kind": kind}))
    seen, unet = Look.seen, model.unet
    before = state_of(family)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    with torch.random.fork_rng():
        torch.manual_seed(generator(0, "t2i-adapter").initial_seed())
        theirs = T2IAdapter(in_channels=3, num_res_blocks=2, **settings)
    start = {name: value.detach().clone() for name, value in theirs.named_parameters()}
    added = {}
    if family == "sdxl":
        conditioning = seen.conditioning
        added = {"added_cond_kwargs": {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}}
    prediction = unet(
        seen.noisy,
        seen.timesteps,
        encoder_hidden_states=seen.conditioning.context,
        down_intrablock_additional_residuals=theirs(seen.batch.extra["t2i-adapter"]),
        **added,
    ).sample
    loss = torch.nn.functional.mse_loss(prediction.float(), seen.target.float(), reduction="mean")
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    ours = dict(T2IAdapter.from_pretrained(tmp_path / "out" / "t2i-adapter").named_parameters())
    for name, value in theirs.named_parameters():
        gradient = (start[name] - ours[name].detach()) / 0.1
        assert float((gradient - value.grad).abs().max()) < 1e-4 * max(1.0, float(value.grad.abs().max())), name

    engine = Engine(model, plugins=[ControlNetPlugin])
    fields: dict[str, Any] = {"seed": 1, "steps": 2, "height": 32, "width": 32, "output": "latent"}
    use = [ControlNet(model=str(tmp_path / "out" / "t2i-adapter"), image=Image.open(data / "0.png"))]
    without = engine.generate("a red apple", **fields).latents
    assert not torch.equal(without, engine.generate("a red apple", use=use, **fields).latents)


@pytest.mark.parametrize("family", ["sdxl", "sd2"])
def test_where_there_is_no_light_one(tmp_path: Path, data: Path, family: str) -> None:
    """Not for SDXL, nor for a U-Net whose last two levels differ in width, as those of SD1 and SD2 do not."""
    with pytest.raises(ConfigError, match="kind light"):
        run(config(tmp_path, data, family, "t2i-adapter", options={"kind": "light"}))
