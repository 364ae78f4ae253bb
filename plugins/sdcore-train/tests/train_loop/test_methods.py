"""What is trained moves, and nothing else: text encoders, the VAE; batches in parts, less memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sdcore_train import ConfigError, DivergedError, Training

from sdcore import Options
from sdcore.models import load_model
from sdcore.testing.tiny import tiny_folder

from .common import config, pictures, run, same, weights


def start(family: str = "sd1") -> dict[str, dict[str, Any]]:
    model = load_model(str(tiny_folder(family)), device="cpu", dtype="float32")
    return {name: weights(module) for name, module in model.components.items()}


def moved(model: Any, family: str = "sd1") -> set[str]:
    before = start(family)
    return {name for name, module in model.components.items() if not same(weights(module), before[name])}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_text_encoders(tmp_path: Path, family: str) -> None:
    use = [{"plugin": "full", "options": {"unet": False, "text_encoder": True}}]
    encoders = {"text_encoder"} | ({"text_encoder_2"} if family == "sdxl" else set())
    model, _ = run(config(tmp_path, family, use=use))
    assert moved(model, family) == encoders
    both = [{"plugin": "full", "options": {"text_encoder": True}}]
    still = {"learning_rate": 1e-3, "text_encoder_learning_rate": 0.0}
    model, _ = run(config(tmp_path, family, use=both, optimizer=still, output=str(tmp_path / "still")))
    assert moved(model, family) == {"unet"}


@pytest.mark.parametrize("part", ["all", "decoder"])
def test_vae(tmp_path: Path, part: str) -> None:
    use = [{"plugin": "vae", "options": {"part": part, "kl": 1e-3, "dtype": "float32", "measure": 8}}]
    made = config(tmp_path, use=use, steps=12, samples={"every": 12}, ema={"decay": 0.5})
    model, _ = run(made)
    assert moved(model) == {"vae"}
    still = all(same_part(model.vae, name) for name in ("encoder.", "quant_conv."))
    assert still == (part == "decoder")
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert set(rows[0]["terms"]) == ({"l1", "kl"} if part == "all" else {"l1"})
    assert list((tmp_path / "out" / "samples").glob("step-*.png"))

    again = load_model(tmp_path / "out" / "model", device="cpu", dtype="float32")
    assert not same(weights(again.vae), start()["vae"])
    assert not same(weights(again.vae), weights(model.vae))  # the average is stored
    before = load_model(str(tiny_folder("sd1")), device="cpu", dtype="float32").vae.config.scaling_factor
    assert (again.vae.config.scaling_factor == before) == (part == "decoder")


def test_lpips_is_a_term_of_the_vae(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors, before, number = {}, 3, 0
    for block, (width, layers) in enumerate([(4, 2), (5, 2), (6, 3), (7, 3), (8, 3)]):
        for _ in range(layers):
            tensors[f"conv{number}.weight"] = torch.full((width, before, 3, 3), 0.1)
            tensors[f"conv{number}.bias"] = torch.linspace(-0.5, 0.5, width)
            before, number = width, number + 1
        tensors[f"head{block}.weight"] = torch.ones(width)
    save_file(tensors, tmp_path / "vgg.safetensors")
    run(config(tmp_path, steps=1, use=["vae", f"perceptual:weights={tmp_path / 'vgg.safetensors'}"]))
    row = json.loads((tmp_path / "out" / "log.jsonl").read_text())
    assert set(row["terms"]) == {"l1", "kl", "perceptual"}
    assert row["terms"]["perceptual"] > 0


def same_part(vae: Any, prefix: str) -> bool:
    before = start()["vae"]
    now = weights(vae)
    names = [name for name in before if name.startswith(prefix)]
    assert names
    return same({name: before[name] for name in names}, {name: now[name] for name in names})


def test_latents_have_a_deviation_of_one(tmp_path: Path) -> None:
    """The stored factor is one over the deviation of the latents (arXiv 2112.10752, appendix G)."""
    import torch
    from sdcore_train.data import Data

    made = config(tmp_path, use=[{"plugin": "vae", "options": {"measure": 8, "dtype": "float32"}}], batch_size=8)
    run(made)
    vae: Any = load_model(tmp_path / "out" / "model", device="cpu", dtype="float32").vae
    batch = next(Data(made, size=(32, 32), multiple=8).stream(0))
    with torch.no_grad():
        latents = vae.encode(batch.pixels).latent_dist.mean * vae.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1.0, abs=1e-3)


def test_batches_in_parts_are_one_batch(tmp_path: Path) -> None:
    pictures(tmp_path / "data", count=4)  # all are in the one update
    plain = {"name": "sgd", "learning_rate": 0.1, "clip": 0.0}
    still = ["full", "still"]
    whole, _ = run(config(tmp_path, steps=1, batch_size=4, optimizer=plain, use=still), plugins=[Still])
    made = config(
        tmp_path, steps=1, batch_size=2, accumulate=2, optimizer=plain, use=still, output=str(tmp_path / "parts")
    )
    parts, _ = run(made, plugins=[Still])
    before = start()["unet"]
    for name, weight in weights(whole.unet).items():
        step, other = weight - before[name], weights(parts.unet)[name] - before[name]
        assert float((step - other).abs().max()) <= 1e-5 + 1e-3 * float(step.abs().max()), name


class Still(Training):
    """Latents, noise and timesteps that do not depend on the micro-batch."""

    name = "still"
    Options = Options

    def stages(self, job: Any) -> Any:
        import torch
        from sdcore_train import ports

        def latents(step: Any, batch: Any) -> Any:
            mean, _ = job.moments_of(batch.pixels).chunk(2, dim=1)
            return replace(batch, moments=torch.cat([mean, torch.full_like(mean, -30.0)], dim=1))

        def noise(args: Any, drawn: Any) -> Any:
            return torch.ones_like(drawn)

        def timesteps(step: Any, count: int, generator: Any) -> Any:
            return torch.full((count,), 400)

        return [ports.batch(latents), ports.noise(noise), ports.timesteps(timesteps)]


def test_less_memory_is_the_same_training(tmp_path: Path) -> None:
    use = [{"plugin": "full", "options": {"text_encoder": True}}]
    plain, _ = run(config(tmp_path, use=use))
    calls: list[str] = []

    class Watch(Training):
        name = "watch"
        Options = Options

        def event(self, job: Any, event: Any) -> None:
            calls.append(type(event).__name__)
            assert job.model.unet.is_gradient_checkpointing

    made = config(tmp_path, use=[*use, "watch"], gradient_checkpointing=True, output=str(tmp_path / "less"))
    less, _ = run(made, plugins=[Watch])
    assert calls
    for name in ("unet", "text_encoder"):
        assert same(weights(plain.components[name]), weights(less.components[name]))


class Poison(Training):
    """Makes the gradient NaN in one step, and the loss in none."""

    name = "poison"
    Options = Options

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        def spoil(outcome: Any) -> Any:
            if outcome.step.index == 1 and outcome.step.micro == 0:
                outcome.prediction.register_hook(lambda grad: grad * float("nan"))

        return ports.loss(spoil)


def test_a_bad_gradient_names_all_pictures_of_the_update(tmp_path: Path) -> None:
    made = config(tmp_path, steps=3, batch_size=2, accumulate=2, use=["full", "poison"])
    with pytest.raises(DivergedError, match=r"the norm of the gradient is nan at step 1; its pictures: (.*\.png){4}"):
        run(made, plugins=[Poison])


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder("sd1", in_channels=9)
    with pytest.raises(ConfigError, match="for the task 'inpaint'"):
        run(config(tmp_path, model=str(folder)))


def test_curve_and_events_while_it_trains(tmp_path: Path) -> None:
    seen: list[bool] = []
    made = config(tmp_path, steps=4, logging={"every": 1, "curve": 2, "tensorboard": True})
    run(made, on_event=lambda event: seen.append((tmp_path / "out" / "loss.png").exists()))
    assert seen.index(True) <= 3  # after the second update, not only at the end
    assert any((tmp_path / "out" / "tensorboard").iterdir())
