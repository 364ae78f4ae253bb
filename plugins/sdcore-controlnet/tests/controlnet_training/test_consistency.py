"""canny-consistency: its edges are Canny's, its gradient leads to those asked for, it is one term of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sdcore_controlnet.preprocess.canny import canny_edges
from sdcore_controlnet.training.soft_edges import disagreement, gradients, near, ridges
from sdcore_train import ConfigError, TrainConfig
from torch import Tensor

from .kit import Look, config, run, state_of

LOW, HIGH = 100, 200


def pictures(count: int = 8) -> Tensor:
    """Smooth colours with a few shapes on them, (n, 3, 48, 48) in [-1, 1]."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = Image.fromarray(draw.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        picture = small.resize((48, 48), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(picture)
        for _ in range(3):
            left, top = draw.integers(2, 30, 2).tolist()
            pen.ellipse((left, top, left + 14, top + 12), fill=tuple(draw.integers(0, 255, 3).tolist()))
        found.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(found)


def canny(values: Tensor) -> Tensor:
    """OpenCV's edges, bool (n, 1, height, width)."""
    rows = values.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return torch.stack([torch.from_numpy(canny_edges(row, LOW, HIGH) > 127)[None] for row in rows])


def test_edges_are_those_of_opencv() -> None:
    values = pictures()
    across, down = gradients(values)
    size, thin = across.abs() + down.abs(), ridges(across, down)
    wanted = canny(values)
    assert 0.02 < float(wanted.float().mean()) < 0.3
    assert (wanted & thin & (size > LOW)).sum() / wanted.sum() > 0.995
    strong = thin & (size > HIGH)
    assert (strong & wanted).sum() / strong.sum() > 0.995


def test_what_disagrees() -> None:
    values = pictures()
    wanted = canny(values)
    own, other = disagreement(values, wanted, LOW, HIGH), disagreement(values.roll(1, 0), wanted, LOW, HIGH)
    assert float(own.max()) < 0.2
    assert float(other.min()) > 5 * float(own.max())
    # Nothing drawn: every edge is missed, and by all of the threshold.
    assert torch.allclose(disagreement(values * 0, wanted, LOW, HIGH), torch.full((8,), HIGH / 100))
    # One pixel aside is still there, two are not.
    assert float(disagreement(values.roll(1, 3), wanted, LOW, HIGH).mean()) < 0.5 * float(other.mean())
    black = disagreement(values, torch.zeros_like(wanted), LOW, HIGH)  # a control that was dropped
    assert not black.any()


def test_its_gradient_leads_to_the_edges_asked_for() -> None:
    """From a smooth picture, by descent alone; what counts are OpenCV's edges."""
    wanted = canny(pictures(2))
    values = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)).mul(0.05).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        disagreement(values, wanted, LOW, HIGH).sum().backward()
        optimizer.step()
    found = canny(values.detach())
    recall = (wanted & near(found.float()).bool()).sum() / wanted.sum()
    precision = (found & near(wanted.float()).bool()).sum() / found.sum()
    assert recall > 0.9
    assert precision > 0.9


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_it_is_a_term_of_the_loss(tmp_path: Path, data: Path, family: str) -> None:
    """Only the net learns from it, also where the VAE is not asked for latents; epsilon and v-prediction."""

    def trained(name: str, *more: Any) -> tuple[Any, Any]:
        fields: dict[str, Any] = {"more": list(more), "output": str(tmp_path / name), "steps": 2}
        return run(config(tmp_path, data, family, pictures={"cache": "memory"}, **fields))

    _, plain = trained("plain")
    prediction = Look.seen.prediction.detach()
    use = {"plugin": "canny-consistency", "options": {"weight": 0.5, "pictures": 2}}
    model, result = trained("more", use)
    assert torch.equal(prediction, Look.seen.prediction)
    assert result.loss > plain.loss
    before = state_of(family)
    unet: Any = model.unet
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert all(parameter.grad is None for parameter in model.vae.parameters())
    weights = [_weights(tmp_path / name) for name in ("plain", "more")]
    assert any(not torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "controlnet" / "diffusion_pytorch_model.safetensors"))


def test_only_so_many_pictures_are_decoded(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdcore_controlnet.training import consistency

    seen: list[Tensor] = []
    inner = consistency.decoded
    monkeypatch.setattr(consistency, "decoded", lambda job, latents: (seen.append(latents), inner(job, latents))[1])
    run(config(tmp_path, data, more=[{"plugin": "canny-consistency", "options": {"pictures": 2}}]))
    assert [len(latents) for latents in seen] == [2]


def test_it_needs_a_control(tmp_path: Path, data: Path) -> None:
    made = config(tmp_path, data)
    alone = TrainConfig.model_validate(made.model_dump() | {"use": ["full", "canny-consistency"]})
    with pytest.raises(ConfigError, match="no control pictures without controlnet or t2i-adapter"):
        run(alone)
    turned = config(tmp_path, data, more=["canny-consistency:low=300,high=200"])
    with pytest.raises(ConfigError, match="low 300 is above high 200"):
        run(turned)
    for kind in ("blur", "scribble"):
        with pytest.raises(ConfigError, match=f"must be edges of canny, and preprocess is '{kind}'"):
            run(config(tmp_path, data, options={"preprocess": kind}, more=["canny-consistency"]))
