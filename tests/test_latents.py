from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdcore import Engine, ImageError, Plugin, RequestError, hookimpl, ports
from sdcore.denoise import check_finite
from sdcore.errors import SdcoreError
from sdcore.images import image_to_tensor, tensors_to_images
from sdcore.latents import check_size
from sdcore.testing.tiny import tiny_folder

FIELDS: dict[str, Any] = {"steps": 4, "scheduler": "ddim", "guidance_scale": 2.0}


class Start(Plugin):
    """Keeps where the loop starts."""

    name = "start"
    initial: Any = None
    schedule: Any = None

    @hookimpl
    def latents(self, run: Any) -> Any:
        def keep(initial: Any) -> None:
            self.initial, self.schedule = initial, run.schedule

        return ports.initial_latents(keep)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(tiny_folder("sd1"), plugins=[Start], device="cpu") as engine:
        yield engine


def start(engine: Engine, **fields: Any) -> Any:
    engine.generate("a cat", use=["start"], output="latent", **FIELDS | fields)
    return engine.host.plugin("start")


def picture(width: int = 32, height: int = 24) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)


def encoded(engine: Engine, image: Image.Image, seed: int) -> torch.Tensor:
    """By hand: a sample of the codec's posterior, from the picture's generator."""
    model: Any = engine.model
    pixels = image_to_tensor(image, image.height, image.width, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        posterior = model.vae.encode(pixels).latent_dist
    drawn = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed))
    scaled: torch.Tensor = (posterior.mean + posterior.std * drawn) * model.vae.config.scaling_factor
    return scaled


# -- text to picture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "dpmpp-2m", "edm-euler"])
def test_noise_is_drawn_from_each_seed_and_scaled(engine: Engine, scheduler: str) -> None:
    found = start(engine, seeds=(7, 2**60, 7), height=24, width=40, scheduler=scheduler, batch_size=3)
    for index, seed in enumerate((7, 2**60, 7)):
        noise = torch.randn(1, 4, 6, 10, generator=torch.Generator("cpu").manual_seed(seed))
        assert torch.equal(found.initial.noise[index : index + 1], noise)
        assert torch.equal(found.initial.latents[index : index + 1], noise * found.schedule.scheduler.init_noise_sigma)
    assert found.initial.image is None
    alpha, sigma = found.schedule.rates[0]
    if alpha == 1:  # init_noise_sigma is the noise of the start, or next to it
        assert float(found.initial.latents.std() / found.initial.noise.std()) == pytest.approx(sigma, rel=0.05)


# -- picture to picture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.99, 1.0])
def test_picture_is_noised_to_the_first_step(engine: Engine, strength: float) -> None:
    """The noise comes after the posterior's sample, from the same generator: as diffusers draws it."""
    found = start(engine, seed=5, image=picture(), strength=strength)
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 4, 6, 8, generator=generator)
    noise = torch.randn(1, 4, 6, 8, generator=generator)
    clean = encoded(engine, picture(), 5)
    assert torch.allclose(found.initial.image, clean, atol=1e-6)
    assert torch.equal(found.initial.noise, noise)
    alpha, sigma = found.schedule.rates[0]
    assert torch.allclose(found.initial.latents, alpha * clean + sigma * noise, atol=1e-5)
    assert len(found.schedule.timesteps) == int(4 * strength)


@pytest.mark.parametrize("output", ["image", "latent"])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "pndm", "dpmpp-2m", "lcm"])
def test_strength_0_is_the_codec_round_trip(engine: Engine, scheduler: str, output: str) -> None:
    fields = FIELDS | {"scheduler": scheduler, "output": output}
    result = engine.generate("a cat", seed=5, image=picture(), strength=0, **fields)
    clean = encoded(engine, picture(), 5)
    assert torch.allclose(result.latents, clean, atol=1e-6)
    if output == "image":
        model: Any = engine.model
        with torch.no_grad():
            decoded = model.vae.decode(result.latents / model.vae.config.scaling_factor, return_dict=False)[0]
        assert result.image.tobytes() == tensors_to_images(decoded)[0].tobytes()


def test_strength_grows_away_from_the_picture(engine: Engine) -> None:
    clean = encoded(engine, picture(), 5)
    away = [
        float((engine.generate("a cat", seed=5, image=picture(), strength=s, **FIELDS).latents - clean).norm())
        for s in (0, 0.25, 1.0)
    ]
    assert away[0] < 1e-3 < away[1] < away[2]


@pytest.mark.parametrize(("size", "expected"), [((33, 26), (32, 24)), ((40, 40), (40, 40)), ((15, 9), (12, 8))])
def test_size_follows_the_picture(engine: Engine, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert engine.generate("a", seed=1, image=picture(*size), strength=0.5, **FIELDS).image.size == expected


def test_given_size_scales_the_picture(engine: Engine) -> None:
    result = engine.generate("a", seed=1, image=picture(), strength=0.5, height=40, width=16, **FIELDS)
    assert result.image.size == (16, 40)


def test_the_same_picture_for_every_seed(engine: Engine) -> None:
    found = start(engine, seeds=(1, 2), image=picture(), strength=0.5, batch_size=2)
    mean = [encoded(engine, picture(), seed) for seed in (1, 2)]
    assert torch.allclose(found.initial.image, torch.cat(mean), atol=1e-6)


# -- latents as input ---------------------------------------------------------------------------------------------


def test_latents_are_taken_as_they_are(engine: Engine) -> None:
    given = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    found = start(engine, seeds=(1, 2), image=given, strength=0.5, batch_size=2)
    assert torch.equal(found.initial.image, torch.stack([given, given]))
    ready = start(engine, seeds=(1, 2), image=given, denoising_start=0.5, batch_size=2)
    assert torch.equal(ready.initial.latents, torch.stack([given, given]))
    assert ready.initial.noise is None


@pytest.mark.parametrize("shape", [(3, 6, 8), (1, 4, 6, 8, 1), (4, 6)])
def test_tensors_that_are_no_latents(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="latents"):
        engine.generate("a", image=torch.zeros(shape), strength=0.5, **FIELDS)


def test_latents_for_another_number_of_pictures(engine: Engine) -> None:
    with pytest.raises(ImageError, match=r"2|3"):
        engine.generate("a", seeds=(1, 2, 3), image=torch.zeros(2, 4, 6, 8), strength=0.5, batch_size=3, **FIELDS)


def test_latents_that_are_not_finite(engine: Engine) -> None:
    with pytest.raises(ImageError, match="not finite"):
        engine.generate("a", image=torch.full((1, 4, 6, 8), float("nan")), strength=0.5, **FIELDS)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_one_latent_for_each_picture_whatever_the_batches(engine: Engine, size: int) -> None:
    """Result.latents of several pictures go back in, each to its own seed."""
    drawn = engine.generate("a", seeds=(1, 2, 3, 4, 5), height=16, width=16, output="latent", batch_size=1, **FIELDS)
    back = engine.generate(
        "a", seeds=(1, 2, 3, 4, 5), image=drawn.latents, strength=0, output="latent", batch_size=size, **FIELDS
    )
    assert torch.equal(back.latents, drawn.latents)


# -- decoding -----------------------------------------------------------------------------------------------------


def test_decoding_undoes_the_scale(engine: Engine) -> None:
    result = engine.generate("a cat", seed=3, height=24, width=32, **FIELDS)
    model: Any = engine.model
    with torch.no_grad():
        pixels = model.vae.decode(result.latents / 0.18215, return_dict=False)[0]
    expected = ((pixels[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).to(torch.uint8).numpy()
    assert np.array_equal(np.asarray(result.image), expected)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (30, 32, "height 30 is not a multiple of 4, as this model needs; use 28 or 32"),
        (32, 3, "width 3 is not a multiple of 4, as this model needs; use 4$"),
        (33, 35, "height 33 .* use 32 or 36"),
    ],
)
def test_sizes_that_the_codec_cannot_make(height: int, width: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_size(height, width, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_must_be_numbers(value: float) -> None:
    latents = torch.zeros(2, 4, 2, 2)
    check_finite(latents)
    latents[1, 0, 0, 0] = value
    with pytest.raises(SdcoreError, match="not finite after the last step"):
        check_finite(latents)


# -- what inpainting asks for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "pndm", "dpmpp-2m", "lcm"])
def test_clean_latents_can_be_noised_for_any_step(engine: Engine, scheduler: str) -> None:
    """At every step, before and after the scheduler has counted on: what its rates say."""
    clean, noise = torch.full((1, 4, 6, 8), 0.5), torch.full((1, 4, 6, 8), -0.25)
    found = start(engine, seed=5, image=picture(), strength=0.75, scheduler=scheduler, steps=8)
    schedule = found.schedule
    for index, (alpha, sigma) in enumerate(schedule.rates):
        noised = schedule.add_noise(clean, noise, index)
        assert torch.allclose(noised, alpha * clean + sigma * noise, atol=1e-4), index
    assert schedule.add_noise(clean, noise, len(schedule.rates)) is clean


def test_the_encoder_of_a_run_passes_through_its_stages() -> None:
    asked: list[tuple[str, int]] = []
    made: dict[str, Any] = {}

    class Twice(Plugin):
        name = "twice"

        @hookimpl
        def latents(self, run: Any) -> Any:
            def note(args: Any, call_next: Any) -> Any:
                asked.append((args.purpose, args.index))
                return call_next(args)

            def encode(initial: Any) -> None:
                pixels = image_to_tensor(picture(), 24, 32, device="cpu", dtype=torch.float32)
                state = [generator.get_state() for generator in run.generators]
                made["again"] = torch.cat([initial.encode(pixels, index, "mask") for index in range(2)])
                made["moved"] = [
                    not torch.equal(old, generator.get_state())
                    for old, generator in zip(state, run.generators, strict=True)
                ]
                made["image"] = initial.image

            return [ports.encode_image(note), ports.initial_latents(encode)]

    with Engine.load(tiny_folder("sd1"), plugins=[Twice], device="cpu") as engine:
        engine.generate("a cat", seeds=(5, 6), image=picture(), strength=0.5, batch_size=2, use=["twice"], **FIELDS)
    assert asked == [("image", 0), ("image", 1), ("mask", 0), ("mask", 1)]
    assert made["again"].shape == made["image"].shape
    assert made["moved"] == [True, True]
    assert torch.allclose(made["again"], made["image"], atol=3.0)  # the same picture, another sample
    assert not torch.equal(made["again"], made["image"])
