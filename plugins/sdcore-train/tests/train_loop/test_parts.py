"""Every part changes the training, and does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sdcore_train import ConfigError, Training, generator, text

from sdcore import ConflictError, Options

from .common import config, run, same, weights

PARTS = (
    "min-snr:gamma=1.0",
    "debiased",
    "huber",
    "wavelet",
    "noise-offset:strength=0.5",
    "pyramid-noise",
    "input-perturbation",
    "timesteps:distribution=logit-normal",
    "timesteps",
    "self-perceptual",
)


@pytest.mark.parametrize("part", PARTS)
def test_it_makes_a_difference(tmp_path: Path, part: str) -> None:
    plain, _ = run(config(tmp_path, steps=1, output=str(tmp_path / "plain")))
    other, _ = run(config(tmp_path, steps=1, use=["full", part], output=str(tmp_path / "other")))
    assert not same(weights(plain.unet), weights(other.unet))
    again, _ = run(config(tmp_path, steps=1, use=["full", part], output=str(tmp_path / "again")))
    assert same(weights(other.unet), weights(again.unet))


class Look(Training):
    """Keeps outcomes."""

    name = "look"
    Options = Options
    seen: list[Any] = []

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        Look.seen.clear()
        return ports.loss_weights(lambda outcome, _: Look.seen.append(outcome))


def test_several_parts_compose(tmp_path: Path) -> None:
    use = ["full", "huber", "wavelet", "min-snr", "noise-offset", "input-perturbation", "timesteps", "look"]
    _, result = run(config(tmp_path, steps=1, use=use), plugins=[Look])
    assert result.loss > 0
    outcome = Look.seen[0]
    noise = outcome.noisy - outcome.latents * (outcome.snr / (1 + outcome.snr)).sqrt().view(-1, 1, 1, 1)
    drawn = noise / (1 / (1 + outcome.snr)).sqrt().view(-1, 1, 1, 1)
    assert float((drawn - outcome.noise).abs().max()) > 0.05  # the input is perturbed, the target is not


def test_two_claims_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="timesteps"):
        run(config(tmp_path, use=["full", "timesteps", "timesteps:distribution=uniform"]))


def test_range_of_timesteps(tmp_path: Path) -> None:
    run(config(tmp_path, steps=3, use=["full", "timesteps:start=0.5,end=0.6", "look"]), plugins=[Look])
    drawn = [int(t) for outcome in Look.seen for t in outcome.timesteps]
    assert len(drawn) == 12
    assert all(500 <= t < 600 for t in drawn)
    with pytest.raises(ConfigError, match="leave no timestep"):
        run(config(tmp_path, use=["full", "timesteps:start=0.5,end=0.5"], output=str(tmp_path / "b")))


def test_nothing_touches_the_global_generator(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    run(config(tmp_path, use=["full", *PARTS[:8]]))
    assert torch.equal(before, torch.random.get_rng_state())
    first = torch.randn(3, generator=generator(0, "a", 1))
    assert torch.equal(first, torch.randn(3, generator=generator(0, "a", 1)))
    assert not torch.equal(first, torch.randn(3, generator=generator(0, "a", 2)))


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ([], "nothing is to be trained"),
        (["min-snr"], "nothing is to be trained"),
        (["ful"], "Did you mean 'full'"),
        (["full", "min-snr:gama=5"], "gamma"),
        (["full", "perceptual:weights=x.safetensors"], "use self-perceptual"),
        ([{"plugin": "full", "options": {"unet": False}}], "neither unet nor text_encoder"),
    ],
)
def test_wrong_use(tmp_path: Path, use: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(config(tmp_path, use=use))
    assert not (tmp_path / "out").exists()


class Broken(Training):
    """A stage that fails."""

    name = "broken"
    Options = Options

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        def fail(args: Any, noise: Any) -> Any:
            raise RuntimeError("no")

        return ports.noise(fail)


def test_a_failing_stage_is_named(tmp_path: Path) -> None:
    from sdcore import PluginError

    with pytest.raises(PluginError, match=r"'broken'.*stages\.noise.*RuntimeError: no"):
        run(config(tmp_path, use=["full", "broken"]), plugins=[Broken])


class Around(Training):
    """Stages on the around ports."""

    name = "around"
    Options = Options
    wrong = False

    def stages(self, job: Any) -> Any:
        from sdcore_train import ports

        def step(args: Any, call_next: Any) -> Any:
            terms = call_next(args)
            return {name: 2 * value for name, value in terms.items()}

        def call(args: Any, call_next: Any) -> Any:
            return None if Around.wrong else call_next(args)

        return [ports.step(step), ports.unet_call(call)]


def test_around_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdcore import PluginError

    _, plain = run(config(tmp_path, steps=1, output=str(tmp_path / "a")))
    _, double = run(config(tmp_path, steps=1, use=["full", "around"], output=str(tmp_path / "b")), plugins=[Around])
    assert double.loss == pytest.approx(2 * plain.loss)
    monkeypatch.setattr(Around, "wrong", True)
    with pytest.raises(PluginError, match=r"stages\.unet_call"):
        run(config(tmp_path, steps=1, use=["full", "around"], output=str(tmp_path / "c")), plugins=[Around])


class Watch(Training):
    """Keeps whether torch's fused attention was allowed."""

    name = "watch"
    Options = Options
    seen: list[bool] = []

    def stages(self, job: Any) -> Any:
        import torch
        from sdcore_train import ports

        Watch.seen.clear()
        return ports.loss_weights(lambda *_: Watch.seen.append(torch.backends.cuda.flash_sdp_enabled()))


@pytest.mark.parametrize(("precision", "fused"), [("no", True), ("bf16", False)])
def test_plain_attention_in_bfloat16_on_a_cpu(tmp_path: Path, precision: str, fused: bool) -> None:
    import torch

    run(config(tmp_path, steps=1, precision=precision, use=["full", "watch"]), plugins=[Watch])
    assert Watch.seen == [fused]
    assert torch.backends.cuda.flash_sdp_enabled()


def test_a_caption_is_cut_into_tokens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[str] = []
    real = text.tokenise

    def counted(tokenizer: Any, parts: Any, places: Any) -> list[int]:
        found = list(parts)
        cut.append("".join(part for part, _ in found))
        return real(tokenizer, found, places)

    monkeypatch.setattr(text, "tokenise", counted)
    run(config(tmp_path, steps=6))  # three visits of each of eight pictures
    assert sorted(cut) == [f"a red apple {number}" for number in range(8)]


def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    import torch
    from torch._dynamo import register_backend

    graphs: list[Any] = []

    @register_backend(name="counted")
    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    drawn = {"prompts": ["a red apple"], "request": {"steps": 1}}
    unet = [{"plugin": "full", "options": {"text_encoder": False}}]
    plain, _ = run(config(tmp_path, output=str(tmp_path / "plain"), use=unet))
    assert not graphs
    again = config(tmp_path, output=str(tmp_path / "compiled"), use=unet, compile="counted", samples=drawn)
    model, result = run(again)
    assert len(graphs) == 1
    assert same(weights(plain.unet), weights(model.unet))
    assert result.files
    assert not isinstance(model.unet, torch._dynamo.OptimizedModule)


def test_an_unknown_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"compile is 'inducter', which torch.compile does not know\. Did you mean 'inductor'"
    ):
        run(config(tmp_path, compile="inducter"))
