"""One step against the arithmetic of diffusers' train_dreambooth.py, on the same noise and timesteps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from sdcore_dreambooth import DreamBooth
from sdcore_train import train
from torch.nn import functional as F

from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .helpers import Quiet, Spy, config, pictures


def _encode(model: Any, captions: tuple[str, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Captions as the training scripts of diffusers encode them."""
    hidden, pooled = [], None
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        inputs = tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        if model.family == "sdxl":
            output = encoder(inputs.input_ids, output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled = output[0]
        else:
            hidden.append(encoder(inputs.input_ids, attention_mask=None)[0])
    added = {}
    if pooled is not None:
        ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(len(captions), 1)
        added = {"text_embeds": pooled, "time_ids": ids}
    return torch.cat(hidden, dim=-1), added


@pytest.mark.parametrize(("family", "prediction"), [("sd1", "epsilon"), ("sd2", "v_prediction"), ("sdxl", "epsilon")])
def test_loss_and_gradients_are_those_of_diffusers(tmp_path: Path, family: str, prediction: str) -> None:
    options = DreamBooth(
        path=str(pictures(tmp_path / "cat")),
        token="zwx",
        class_name="cat",
        mode="full",
        text_encoder=True,
        prior_weight=0.7,
        class_count=3,
        class_steps=1,
    )
    folder = tiny_folder(family, prediction_type=prediction)
    # Plain gradient descent with a rate of 1: the change of a weight is its gradient.
    plan = config(
        tmp_path / "out",
        options,
        "spy",
        model=str(folder),
        optimizer={"name": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "clip": 0},
    )
    trained = load_model(folder, device="cpu", dtype="float32")
    Spy.seen.clear()
    result = train(plan, model=trained, plugins=[Spy], say=Quiet(), progress=False)
    [outcome] = Spy.seen
    assert outcome.batch.roles == ("subject-1", "subject-1", "class", "class")
    assert outcome.batch.captions == ("a zwx cat", "a zwx cat", "a cat", "a cat")

    model = load_model(folder, device="cpu", dtype="float32")
    parts = (model.unet, *model.text_encoders)
    for part in parts:
        part.train().requires_grad_(True)
    scheduler = DDPMScheduler.from_config(model.scheduler_config)
    latents, noise, timesteps = outcome.latents, outcome.noise, outcome.timesteps
    noisy = scheduler.add_noise(latents, noise, timesteps)
    # Each caption once: the last bits of an encoding depend on what stands beside it.
    context, added = _encode(model, ("a zwx cat", "a cat"))
    context, added = context[[0, 0, 1, 1]], {name: value[[0, 0, 1, 1]] for name, value in added.items()}
    predicted = model.unet(noisy, timesteps, context, added_cond_kwargs=added, return_dict=False)[0]
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    of_subject, of_class = torch.chunk(predicted, 2, dim=0)
    target, target_class = torch.chunk(target, 2, dim=0)
    loss = F.mse_loss(of_subject.float(), target.float(), reduction="mean")
    loss = loss + 0.7 * F.mse_loss(of_class.float(), target_class.float(), reduction="mean")
    loss.backward()

    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    for part, after in zip(parts, (trained.unet, *trained.text_encoders), strict=True):
        values = dict(after.named_parameters())
        for name, parameter in part.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            change = parameter.detach() - values[name].detach()
            assert float((change - gradient).abs().max()) <= 1e-5 + 1e-4 * float(gradient.abs().max()), name
