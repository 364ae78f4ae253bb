"""One step of ours is one step of diffusers' example scripts, written out here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from sdcore_train import Training, generator
from torch.nn.functional import mse_loss

from sdcore import Options
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .common import config, run

SGD = {"name": "sgd", "learning_rate": 0.1, "betas": (0.0, 0.999), "clip": 1.0, "weight_decay": 0.0}


class Keep(Training):
    """Keeps what the first forward made, and the gradients of the first step."""

    name = "keep"
    Options = Options
    seen: Any = None

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        def look(outcome: Any, weights: Any) -> None:
            if outcome.step.number == 0:
                Keep.seen = outcome

        return ports.loss_weights(look)


def reference(model: Any, batch: Any, kind: str, gamma: float | None = None) -> torch.Tensor:
    """The loss of train_text_to_image.py, with the draws of our step 0."""
    scheduler = DDPMScheduler.from_config(model.scheduler_config, prediction_type=kind)
    posterior = model.vae.encode(batch.pixels).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(
        posterior.mean.shape, generator=generator(0, "posterior", 0, 0)
    )
    latents = latents * model.vae.config.scaling_factor
    timesteps = torch.randint(0, 1000, (len(latents),), generator=generator(0, "timesteps", 0, 0))
    noise = torch.randn(latents.shape, generator=generator(0, "noise", 0, 0))
    noisy = scheduler.add_noise(latents, noise, timesteps)
    added = {}
    states, pooled = [], None
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        ids = tokenizer(
            list(batch.captions), padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids
        out = encoder(ids, output_hidden_states=True)
        if model.family == "sdxl":
            states.append(out.hidden_states[-2])
            pooled = out[0]
        else:
            states.append(out[0])
    if model.family == "sdxl":
        ids = [[*o, *c, *batch.size] for o, c in zip(batch.original_sizes, batch.crops, strict=True)]
        added = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor(ids, dtype=torch.float32)}}
    prediction = model.unet(noisy, timesteps, torch.cat(states, -1), **added).sample
    target = {"epsilon": noise, "v_prediction": scheduler.get_velocity(latents, noise, timesteps), "sample": latents}
    if gamma is None:
        return mse_loss(prediction, target[kind], reduction="mean")
    from diffusers.training_utils import compute_snr

    snr = compute_snr(scheduler, timesteps)
    weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    weights = weights / (snr + 1) if kind == "v_prediction" else weights / snr
    loss = mse_loss(prediction, target[kind], reduction="none").mean(dim=(1, 2, 3)) * weights
    return loss.mean()


@pytest.mark.parametrize(
    ("family", "kind", "gamma"),
    [
        ("sd1", "epsilon", None),
        ("sd1", "v_prediction", None),
        ("sd1", "sample", None),
        ("sd2", "v_prediction", 5.0),
        ("sd2", "epsilon", 5.0),
        ("sdxl", "epsilon", None),
    ],
)
def test_loss_and_update(tmp_path: Path, family: str, kind: str, gamma: float | None) -> None:
    use = ["full", "keep", *([f"min-snr:gamma={gamma}"] if gamma else [])]
    made = config(tmp_path, family, use=use, steps=1, prediction=kind, optimizer=SGD)
    trained, result = run(made, plugins=[Keep])
    model = load_model(tiny_folder(family), device="cpu", dtype="float32")
    model.unet.requires_grad_(True)
    loss = reference(model, Keep.seen.batch, kind, gamma)
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.unet.parameters(), 1.0)
    # Plain gradient descent: the update is the gradient, where Adam's first step is only its sign.
    torch.optim.SGD(model.unet.parameters(), lr=0.1).step()
    theirs = dict(model.unet.named_parameters())
    before = dict(load_model(tiny_folder(family), device="cpu", dtype="float32").unet.named_parameters())
    moved = 0.0
    for name, ours in trained.unet.named_parameters():
        assert float((ours - theirs[name]).detach().abs().max()) < 1e-6, name
        moved = max(moved, float((ours - before[name]).detach().abs().max()))
    assert moved > 1e-4


def test_masks_weigh_places(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    made = config(tmp_path, steps=1, use=["full", "keep"])
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:, :16] = 255
    for number in range(8):
        Image.fromarray(mask).save(masks / f"{number}.png")
    made = config(tmp_path, steps=1, use=["full", "keep"], data=[{"path": str(tmp_path / "data"), "masks": str(masks)}])
    _, result = run(made, plugins=[Keep])
    outcome = Keep.seen
    error = (outcome.prediction - outcome.target).square().detach()
    width = error.shape[-1]
    assert result.loss == pytest.approx(float(error[..., : width // 2].mean()), rel=1e-5)
    assert result.loss != pytest.approx(float(error.mean()), rel=1e-3)
