"""The scheme ``latent``: keyed signs in the noise, and the way back to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sdcore_watermark import Key, Watermark, detect, detect_latent, embed
from sdcore_watermark.latent import signs
from sdcore_watermark.latent.detecting import read_noise
from sdcore_watermark.latent.inversion import decoded_from, invert
from sdcore_watermark.latent.noise import keyed_noise

from sdcore import Engine, RequestError
from sdcore.cli import main
from sdcore.stages import NoiseArgs
from sdcore.testing.tiny import tiny_folder


def noise(key: Key, seed: int, shape: tuple[int, ...] = (1, 4, 64, 64), payload: int = 77) -> np.ndarray:
    args = NoiseArgs(0, seed, shape, torch.Generator().manual_seed(seed))
    return keyed_noise(args, key, payload)[0].numpy()


def test_the_noise_is_normal(key: Key) -> None:
    drawn = np.stack([noise(key, seed, (1, 4, 16, 16)) for seed in range(60)])
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1]) < 0.03
    assert np.abs(drawn.mean(0)).max() < 5 / 60**0.5


def test_a_seed_has_one_noise_whose_sizes_are_those_without_a_mark(key: Key, other: Key) -> None:
    plain = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(5)).numpy()[0]
    marked = noise(key, 5)
    assert np.array_equal(marked, noise(key, 5))
    assert np.array_equal(np.abs(marked), np.abs(plain))
    for changed in (noise(other, 5), noise(key, 6), noise(key, 5, payload=78)):
        assert not np.array_equal(marked, changed)


@pytest.mark.parametrize("correlation", [0.3, 0.15])
def test_found_in_noise_that_was_recovered_badly(key: Key, other: Key, correlation: float) -> None:
    random = np.random.default_rng(1)
    true = noise(key, 9)
    seen = correlation * true + (1 - correlation**2) ** 0.5 * random.normal(size=true.shape)
    found = read_noise(seen, key)
    assert found.p_value < 1e-6
    assert found.payload == (77 if correlation > 0.2 else found.payload)
    assert found.guess == 77 or correlation < 0.2
    mirrored = read_noise(seen[..., ::-1], key)
    assert mirrored.p_value < 1e-6
    assert mirrored.geometry == {"mirror": True}
    assert read_noise(seen, other).p_value > 1e-4


def test_small_latents_are_found_only(key: Key) -> None:
    found = read_noise(noise(key, 3, (1, 4, 8, 8)), key)
    assert found.p_value < 1e-20
    assert found.payload is None
    assert found.bit_confidence == ()


def test_a_known_seed_lowers_the_bar(key: Key) -> None:
    random = np.random.default_rng(4)
    true = noise(key, 3, (1, 4, 16, 16))
    seen = 0.2 * true + random.normal(size=true.shape)
    assert read_noise(seen, key, seed=3).p_value < read_noise(seen, key).p_value / 100
    assert read_noise(seen, key, seed=4).p_value > 1e-4
    assert 0 <= signs.nonce_of(b"x" * 32, 3) < signs.NONCES


@pytest.fixture(scope="session")
def drawn(mini: Engine, tmp_path_factory: pytest.TempPathFactory, key: Key) -> tuple[Image.Image, str]:
    """A picture of the embedded model with a mark in its noise, and the name of its key file."""
    key_file = str(key.save(tmp_path_factory.mktemp("latent") / "key.json"))
    use = [Watermark(key=key_file, latent=True, unmarkable="allow")]
    return mini.generate("a house", seed=102, steps=20, guidance_scale=1.0, use=use).image, key_file


def test_the_embedded_model_is_carried_back(mini: Engine, key: Key, other: Key, drawn: tuple[Image.Image, str]) -> None:
    image = drawn[0]
    recovered = invert(mini, image, 20)
    assert read_noise(recovered, key).p_value < 1e-6
    assert read_noise(recovered, other).p_value > 1e-4
    shape = (1, *recovered.shape)
    told = invert(mini, image, 20, prompt="a house")  # the better the prompt is drawn, the more it takes to know it
    true = keyed_noise(NoiseArgs(0, 102, shape, torch.Generator().manual_seed(102)), key, 0).numpy()
    assert np.corrcoef(told.ravel(), true.ravel())[0, 1] > max(0.4, np.corrcoef(recovered.ravel(), true.ravel())[0, 1])


def test_command(
    mini: Engine,
    drawn: tuple[Image.Image, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, key_file = drawn
    image.save(tmp_path / "a.png")
    models: list[str] = []
    monkeypatch.setattr("sdcore.cli.kit.load_engine", lambda args: (models.append(args.model), mini)[1])
    line = ["watermark", "detect", str(tmp_path / "a.png"), "--scheme", "latent", "--key", key_file, "--steps", "20"]
    assert main([*line, "--model", "some", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)[0]
    assert (told["scheme"], told["found"]) == ("latent", True)
    assert models == ["some"]
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "b.png")
    assert main([*line[:2], str(tmp_path / "b.png"), *line[3:-1], "2"]) == 3
    assert main([*line, "--payload", "1"]) == 2
    assert "has one" in capsys.readouterr().err


def test_pixels_are_not_where_it_is_marked(key: Key) -> None:
    with pytest.raises(RequestError, match=r"Watermark\(latent=True\)"):
        embed(Image.new("RGB", (64, 64)), key, scheme="latent")
    with pytest.raises(RequestError, match="detect_latent"):
        detect(Image.new("RGB", (64, 64)), key, scheme="latent")


def test_descent_through_the_decoder_comes_nearer_than_the_encoder(mini: Engine) -> None:
    vae = mini.model.vae
    result = mini.generate("a rocket, noto style, green background", seed=2, steps=20)
    true = result.latents
    assert true is not None
    none, some = decoded_from(mini, result.image, 0), decoded_from(mini, result.image, 25)
    assert (some - true).square().mean() < 0.5 * (none - true).square().mean()
    assert not [p for p in vae.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_family_is_carried_back(family: str, key: Key) -> None:
    engine = Engine.load(tiny_folder(family), plugins=(), device="cpu", dtype="float32")
    image = Image.new("RGB", (64, 64), "teal")
    recovered = invert(engine, image, 2)
    assert recovered.shape == (4, 16, 16)
    assert np.isfinite(recovered).all()
    assert detect_latent(engine, image, key, steps=2).p_value > 1e-4


def test_an_engine_with_a_policy_can_look_back(key: Key, key_file: str) -> None:
    policy = [Watermark(key=key_file)]
    engine = Engine.load(tiny_folder("sd1"), plugins=["watermark"], always=policy, device="cpu", dtype="float32")
    assert detect_latent(engine, Image.new("RGB", (64, 64)), key, steps=1).scheme == "latent"


def test_wrong_arguments(mini: Engine, key: Key) -> None:
    image = Image.new("RGB", (64, 64))
    with pytest.raises(RequestError, match="steps is 0"):
        detect_latent(mini, image, key, steps=0)
    with pytest.raises(RequestError, match="decoder_steps is -1"):
        detect_latent(mini, image, key, decoder_steps=-1)
    with pytest.raises(RequestError, match="key is a str"):
        detect_latent(mini, image, "key")  # type: ignore[arg-type]
