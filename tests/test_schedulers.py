from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sdcore import Engine, RequestError
from sdcore.registry import Registry
from sdcore.schedule import Schedule
from sdcore.schedulers import BUILTIN, SPACINGS, SchedulerSpec, make_scheduler, register_builtin, scheduler_names
from sdcore.testing.tiny import scheduler_config, tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CONFIG = {"epsilon": scheduler_config("sd1", "epsilon"), "v_prediction": scheduler_config("sd2", "v_prediction")}
# Every name with every suffix that it has. DPM2 takes a quarter of a second to make: one variant each.
REFUSED = {
    **{name: {"karras", "exponential", "beta"} for name in ("ddpm", "ddim", "euler-a", "ddim-inverse")},
    "pndm": {"karras", "exponential", "beta", "zsnr"},
    "dpmpp-2s": {"trailing", "leading", "linspace", "zsnr"},
    **{name: set(SPACINGS) - {"zsnr"} for name in ("lcm", "tcd")},
    **{name: set(SPACINGS) for name in ("edm-euler", "edm-dpmpp-2m")},
    **{name: {"zsnr"} for name in ("lms", "heun", "dpm2", "dpm2-a", "dpmpp-sde", "deis", "sa-solver")},
}
NAMES = [
    *BUILTIN,
    *(f"{name}-{suffix}" for name in BUILTIN for suffix in SPACINGS if suffix not in REFUSED.get(name, ())),
]
NAMES.remove("ddim-inverse-linspace")
NAMES = [n for n in NAMES if not n.startswith("dpm2-") or n in ("dpm2-a", "dpm2-karras", "dpm2-a-beta")]
DETERMINISTIC = [
    name
    for name in NAMES
    if not name.startswith(
        ("ddpm", "euler-a", "dpm2-a", "dpmpp-2m-sde", "dpmpp-sde", "sa-solver", "lcm", "tcd", "ddim-inverse")
    )
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    made = Registry()
    register_builtin(made)
    return made


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(tiny_folder("sd2", prediction_type="v_prediction"), plugins=[], device="cpu") as engine:
        yield engine


def schedule(
    registry: Registry, name: str | None, steps: int = 5, kind: str = "v_prediction", **fields: Any
) -> Schedule:
    return Schedule(make_scheduler(name, CONFIG[kind], registry), steps, **fields)


def walk(made: Schedule, x0: torch.Tensor, noise: torch.Tensor, seeds: tuple[int, ...] = (3, 4)) -> list[torch.Tensor]:
    """The latents before every step and after the last, with a model that knows x0."""
    alpha, sigma = made.rates[0]
    latents = [alpha * x0 + sigma * noise]
    arguments = made.step_arguments([torch.Generator().manual_seed(seed) for seed in seeds], seeds, 0.0)
    for timestep, (alpha, sigma) in zip(made.host_timesteps, made.rates, strict=True):
        made.scale_input(latents[-1], timestep)
        output = made.from_x0(x0, latents[-1], alpha, sigma)
        latents.append(made.scheduler.step(output, timestep, latents[-1], **arguments, return_dict=False)[0])
    return latents


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 4, 3, 5, generator=generator) - 0.5, torch.randn(2, 4, 3, 5, generator=generator)


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_name_draws(engine: Engine, name: str) -> None:
    fields: dict[str, Any] = {"guidance_scale": 1, "height": 16, "width": 24, "output": "latent"}
    result = engine.generate("a cat", seed=1, steps=2, scheduler=name, **fields)
    assert result.latents.shape == (1, 4, 4, 6)
    assert result.latents.isfinite().all()


def test_the_names_differ(engine: Engine) -> None:
    """No name is another one under a second name."""
    twins = {("dpmpp-2m", "deis"), ("dpmpp-2m", "dpmpp-3m")}
    fields: dict[str, Any] = {"seed": 1, "steps": 4, "height": 16, "width": 16, "output": "latent"}
    found = {name: engine.generate("a cat", scheduler=name, **fields).latents for name in BUILTIN}
    same = {(a, b) for a in found for b in found if a < b and torch.equal(found[a], found[b])}
    assert same <= twins


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_suffixes_that_a_class_has_not(registry: Registry, name: str) -> None:
    for suffix in REFUSED[name]:
        with pytest.raises(RequestError, match=f"{name}-{suffix}': it has no {suffix} spacing; it has: ") as caught:
            make_scheduler(f"{name}-{suffix}", CONFIG["v_prediction"], registry)
        offered = str(caught.value).rpartition(": ")[2]
        expected = [other for other in SPACINGS if other not in REFUSED[name]]
        assert offered == (", ".join(expected) or "none")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("eulr", "Did you mean 'euler'"),
        ("euler_a", "Did you mean 'euler-a'"),
        ("DDIM", "Known: "),
        ("dpmpp-2m-karas", "Did you mean 'dpmpp-2m-karras'"),
        ("euler-cosine", "Did you mean 'euler"),
        ("zzz", "Known: ddim, ddim-inverse, ddpm"),
        ("", "Known: "),
        ("-karras", "Did you mean"),
    ],
)
def test_unknown_names(engine: Engine, name: str, hint: str) -> None:
    with pytest.raises(RequestError, match=f"there is no scheduler '{name}'") as caught:
        engine.generate("a cat", scheduler=name, steps=1)
    assert hint in str(caught.value)


def test_names_are_listed(registry: Registry) -> None:
    assert scheduler_names(registry) == sorted(BUILTIN)


@pytest.mark.parametrize(("suffix", "fields"), SPACINGS.items())
def test_what_a_suffix_sets(registry: Registry, suffix: str, fields: dict[str, Any]) -> None:
    made = make_scheduler(f"euler-{suffix}", CONFIG["v_prediction"], registry)
    assert {key: made.config[key] for key in fields} == fields
    assert made.config.beta_end == 0.012


def test_a_suffix_takes_the_place_of_the_models_own(registry: Registry) -> None:
    own = {**CONFIG["epsilon"], "use_karras_sigmas": True}
    assert make_scheduler("euler", own, registry).config.use_karras_sigmas
    made = make_scheduler("euler-beta", own, registry)
    assert made.config.use_beta_sigmas
    assert not made.config.use_karras_sigmas


def test_no_zero_snr_for_models_of_noise(registry: Registry) -> None:
    with pytest.raises(RequestError, match="predicts the noise"):
        make_scheduler("ddim-zsnr", CONFIG["epsilon"], registry)


def test_no_name_is_the_models_own(registry: Registry) -> None:
    assert type(make_scheduler(None, CONFIG["epsilon"], registry)).__name__ == "PNDMScheduler"
    # One that has no short name.
    other = {**CONFIG["epsilon"], "_class_name": "IPNDMScheduler"}
    assert type(make_scheduler(None, other, registry)).__name__ == "IPNDMScheduler"
    with pytest.raises(RequestError, match="'NoScheduler' cannot be imported"):
        make_scheduler(None, {"_class_name": "NoScheduler"}, registry)


def test_each_run_has_its_own(registry: Registry) -> None:
    first, second = (make_scheduler("euler", CONFIG["epsilon"], registry) for _ in range(2))
    first.set_timesteps(3)
    first.alphas_cumprod.zero_()
    assert second.num_inference_steps is None
    assert bool((second.alphas_cumprod > 0).all())
    assert bool((make_scheduler("euler", CONFIG["epsilon"], registry).alphas_cumprod > 0).all())


def test_a_plugins_scheduler() -> None:
    """A function that takes the model's config."""
    given: list[Any] = []

    def make(config: Any) -> Any:
        from diffusers import DDIMScheduler

        given.append(config)
        return DDIMScheduler(prediction_type=config["prediction_type"], clip_sample=config["clip"])

    registry = Registry()
    registry.add("scheduler", "mine", SchedulerSpec(make, {"clip": False}))
    made = make_scheduler("mine", CONFIG["v_prediction"], registry)
    assert made.config.prediction_type == "v_prediction"
    assert given[0]["beta_end"] == 0.012


def test_settings_that_a_class_refuses(registry: Registry) -> None:
    with pytest.raises(RequestError, match="'deis' refuses its settings: wavy is not implemented"):
        make_scheduler("deis", {**CONFIG["epsilon"], "beta_schedule": "wavy"}, registry)


# -- steps, timesteps, sigmas, eta --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("lcm", 51, "LCMScheduler does at most 50 steps"),
        ("tcd", 80, "TCDScheduler does at most 50 steps"),
        ("euler-linspace", 1001, "1001 steps are more than the 1000 timesteps"),
        ("ddim", 1000, "would visit timestep 1000, and the last one is 999"),
        ("dpmpp-2m-linspace", 1000, "the same noise level"),
        ("deis-karras", 1, "the same noise level"),
        ("ddim-inverse-linspace", 4, "linspace is not supported"),
    ],
)
def test_steps_that_cannot_be_done(engine: Engine, name: str, steps: int, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        engine.generate("a cat", scheduler=name, steps=steps, height=32, width=32)


@pytest.mark.parametrize("steps", [1, 2, 50, 200])
@pytest.mark.parametrize(
    "name", ["ddim", "pndm", "lms", "euler", "heun", "dpmpp-2m-beta", "unipc-beta", "dpmpp-2s-beta"]
)
def test_few_and_many_steps(registry: Registry, name: str, steps: int) -> None:
    """Beta spacing visits one timestep several times; diffusers alone gets lost there."""
    x0, noise = pair()
    assert all(latents.isfinite().all() for latents in walk(schedule(registry, name, steps), x0, noise))


@pytest.mark.parametrize("name", ["ddim", "pndm", "lms", "euler-a", "dpm2", "unipc", "deis", "sa-solver"])
def test_no_custom_timesteps(engine: Engine, name: str) -> None:
    with pytest.raises(RequestError, match="takes no custom timesteps; use ddpm, euler, heun, dpmpp-2m"):
        engine.generate("a cat", scheduler=name, timesteps=(900, 500, 100))


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m", "unipc", "edm-euler", "lcm"])
def test_no_custom_sigmas(engine: Engine, name: str) -> None:
    with pytest.raises(RequestError, match="takes no custom sigmas; use euler, or leave them out"):
        engine.generate("a cat", scheduler=name, sigmas=(10.0, 3.0, 0.5))


def test_the_names_in_those_messages_are_right(registry: Registry) -> None:
    takes: dict[str, set[str]] = {"timesteps": set(), "sigmas": set()}
    values: dict[str, Any] = {"timesteps": (999, 499, 259), "sigmas": (10.0, 3.0, 0.5)}
    for name in BUILTIN:
        for key in takes:
            try:
                schedule(registry, name, 3, **{key: values[key]})
            except RequestError:
                continue
            takes[key].add(name)
    from sdcore.schedule import _TAKE

    assert takes["sigmas"] == {"euler"} == {_TAKE["sigmas"]}
    assert takes["timesteps"] - {"dpmpp-2m-sde", "dpmpp-3m"} == set(
        _TAKE["timesteps"].replace(" or ", ", ").split(", ")
    )


def test_custom_values_are_visited(registry: Registry) -> None:
    assert schedule(registry, "euler", 3, timesteps=(951, 500, 3)).timesteps == (951, 500, 3)
    made = schedule(registry, "euler", 3, sigmas=(10.0, 3.0, 0.5))
    assert [round(sigma, 5) for _, sigma in made.rates] == [10.0, 3.0, 0.5]
    assert made.steps == 3


def test_a_timestep_beyond_the_schedule(engine: Engine) -> None:
    with pytest.raises(RequestError, match="1000"):
        engine.generate("a cat", scheduler="ddpm", timesteps=(1000, 500))


@pytest.mark.parametrize("name", [name for name in BUILTIN if name not in ("ddim", "tcd")])
def test_no_eta(registry: Registry, name: str) -> None:
    with pytest.raises(RequestError, match=r"eta is 0\.5, but scheduler \w+ has none; use ddim or tcd"):
        schedule(registry, name).check_eta(0.5)


def test_eta_error_comes_from_the_engine(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"eta is 1\.0"):
        engine.generate("a cat", scheduler="euler", eta=1.0, steps=2)


# -- noise rates and the spaces of a prediction -------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("ddim-inverse", "dpm2", "dpmpp-sde"))])
def test_rates_are_those_of_add_noise(registry: Registry, name: str) -> None:
    """``latents = alpha * x0 + sigma * noise``, before every step. (Half steps: below.)"""
    x0, noise = pair()
    for index, (alpha, sigma) in enumerate(schedule(registry, name).rates):
        fresh = schedule(registry, name)
        fresh._begin(index, len(fresh.scheduler.timesteps))
        expected = fresh.add_noise(x0, noise)
        ours = alpha * x0 + sigma * noise
        # SASolver's add_noise looks the rounded timestep up, and its step goes by the exact noise level.
        near = 5e-3 if name in ("sa-solver-karras", "sa-solver-exponential", "sa-solver-beta") else 1e-5
        assert torch.allclose(ours, expected, rtol=1e-5, atol=near * max(1.0, sigma)), (index, alpha, sigma)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_rates_along_the_way(registry: Registry, name: str, kind: str) -> None:
    """With a model that knows x0, the latents before every step are x0 and the same noise at that step's rates.

    Every scheduler's own update says so, half steps of second-order schedulers included.
    """
    base = name.partition("-")[0]
    if kind == "epsilon" and name.endswith("zsnr"):
        return
    if base in ("ddim", "pndm") and name.endswith("linspace"):
        return  # they step back by 1000/steps, whatever the spacing
    if base == "pndm" and kind == "v_prediction":
        return  # it averages velocities of different steps
    x0, noise = pair()
    made = schedule(registry, name, 5, kind)
    for index, (latents, (alpha, sigma)) in enumerate(zip(walk(made, x0, noise), made.rates, strict=False)):
        expected = alpha * x0 + sigma * noise
        assert torch.allclose(latents, expected, atol=2e-4 * max(1.0, sigma)), (index, alpha, sigma)


@pytest.mark.parametrize("name", ["dpm2", "dpm2-karras", "dpm2-a", "dpmpp-sde", "heun", "euler", "lms", "edm-euler"])
def test_sigma_is_what_the_input_is_scaled_for(registry: Registry, name: str) -> None:
    """Variance-exploding schedulers divide by sqrt(sigma^2 + data^2): an independent word on sigma, half steps too."""
    x0, noise = pair()
    made = schedule(registry, name, 6)
    data = made.scheduler.config.get("sigma_data", 1.0)
    arguments = made.step_arguments([torch.Generator().manual_seed(seed) for seed in (0, 1)], (0, 1), 0.0)
    latents = noise
    for timestep, (alpha, sigma) in zip(made.host_timesteps, made.rates, strict=True):
        scaled = made.scale_input(torch.ones_like(x0), timestep)
        assert alpha == 1.0
        assert scaled.mean().item() == pytest.approx((sigma**2 + data**2) ** -0.5, rel=1e-5)
        latents = made.scheduler.step(torch.zeros_like(x0), timestep, latents, **arguments, return_dict=False)[0]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "name", ["ddim", "ddpm", "pndm", "euler", "heun", "dpm2", "dpmpp-2m", "unipc", "lcm", "edm-euler"]
)
def test_to_x0_and_back(registry: Registry, name: str, kind: str) -> None:
    if kind == "sample" and name in ("edm-euler", "dpm2"):
        return
    made = Schedule(make_scheduler(name, {**CONFIG["epsilon"], "prediction_type": kind}, registry), 5)
    x0, noise = pair()
    output = torch.randn(x0.shape, generator=torch.Generator().manual_seed(9))
    for alpha, sigma in made.rates:
        latents = alpha * x0 + sigma * noise
        there = made.to_x0(output, latents, alpha, sigma)
        assert torch.allclose(made.from_x0(there, latents, alpha, sigma), output, atol=2e-4, rtol=1e-4)
        assert torch.allclose(made.to_x0(made.from_x0(x0, latents, alpha, sigma), latents, alpha, sigma), x0, atol=1e-4)


def test_x0_by_the_definitions(registry: Registry) -> None:
    x0, noise = pair()
    for name in ("ddim", "dpmpp-2m", "euler"):
        for kind in ("epsilon", "v_prediction"):
            made = schedule(registry, name, 5, kind)
            alpha, sigma = made.rates[1]
            latents = alpha * x0 + sigma * noise
            norm = (alpha**2 + sigma**2) ** 0.5
            velocity = (alpha * noise - sigma * x0) / norm  # of the latents scaled to unit variance
            output = noise if kind == "epsilon" else velocity
            assert torch.allclose(made.to_x0(output, latents, alpha, sigma), x0, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "euler", "heun", "dpmpp-2m", "lcm", "unipc"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_x0_is_the_schedulers_own(registry: Registry, name: str, kind: str) -> None:
    made = schedule(registry, name, 5, kind)
    made.scheduler.register_to_config(clip_sample=False)
    x0, noise = pair()
    alpha, sigma = made.rates[0]
    latents = alpha * x0 + sigma * noise
    output = torch.randn(x0.shape, generator=torch.Generator().manual_seed(9))
    made.scale_input(latents, made.host_timesteps[0])
    ours = made.to_x0(output, latents, alpha, sigma)
    if hasattr(made.scheduler, "convert_model_output"):
        made.scheduler._init_step_index(made.host_timesteps[0])
        theirs = made.scheduler.convert_model_output(output, sample=latents)
    elif name == "heun":
        made.scheduler.step(output, made.host_timesteps[0], latents)
        theirs = latents - sigma * made.scheduler.prev_derivative
    else:
        generators = {"generator": [torch.Generator(), torch.Generator()]} if "generator" in made._arguments else {}
        result = made.scheduler.step(output, made.host_timesteps[0], latents, **generators)
        theirs = result.pred_original_sample if name != "lcm" else None
    if theirs is not None:
        assert torch.allclose(ours, theirs, atol=1e-4 * max(1.0, sigma), rtol=1e-4)


# -- which part is visited -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim", "pndm", "euler", "heun", "dpmpp-2m", "dpm2-a"])
def test_strength(registry: Registry, name: str) -> None:
    full = schedule(registry, name, 10).timesteps
    for strength, kept in ((1.0, 10), (0.99, 9), (0.5, 5), (0.1, 1)):
        made = schedule(registry, name, 10)
        made.begin_at_strength(strength)
        assert made.timesteps == full[(10 - kept) * made.order :]
        assert len(made.rates) == len(made.timesteps)
    made = schedule(registry, name, 10)
    made.begin_at_strength(0.0)
    assert made.timesteps == ()


@pytest.mark.parametrize(("steps", "strength", "least"), [(4, 0.2, "0.25"), (3, 0.33, "0.334"), (30, 0.01, "0.034")])
def test_strength_that_leaves_no_step(registry: Registry, steps: int, strength: float, least: str) -> None:
    with pytest.raises(
        RequestError, match=f"strength {strength} of {steps} steps leaves no step; use at least .* {least}"
    ):
        schedule(registry, "ddim", steps).begin_at_strength(strength)
    made = schedule(registry, "ddim", steps)
    made.begin_at_strength(float(least))
    assert len(made.timesteps) == 1


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp-2m-karras", "heun", "dpm2"])
def test_two_parts_make_the_whole(registry: Registry, name: str) -> None:
    full = schedule(registry, name, 9).timesteps
    for at in (0.1, 0.33, 0.5, 0.8, 0.95):
        first, second = schedule(registry, name, 9), schedule(registry, name, 9)
        first.end_at(at)
        second.begin_at(at)
        overlap = len(first.timesteps) + len(second.timesteps) - len(full)
        assert overlap == 0 or (first.order == 2 and overlap == 1), at
        assert full[: len(first.timesteps)] == first.timesteps
        assert full[len(full) - len(second.timesteps) :] == second.timesteps
        assert len(second.timesteps) % 2 or second.order == 1  # never between the halves of a step


def test_chosen_timesteps(registry: Registry) -> None:
    made = schedule(registry, "ddim", 6)
    full = made.timesteps
    made.choose(full)
    assert made.timesteps == full
    made.choose(full[2:5])
    assert made.timesteps == full[2:5]
    other = schedule(registry, "euler", 6)
    other.choose((999.0, 333.0))
    assert other.timesteps == (999.0, 333.0)
    with pytest.raises(RequestError, match="takes no custom timesteps"):
        schedule(registry, "ddim", 6).choose((999.0, 333.0))


def test_chosen_timesteps_start_where_they_should(registry: Registry) -> None:
    """A multistep scheduler that keeps count of its steps begins counting at the right one."""
    x0, noise = pair()
    made = schedule(registry, "dpmpp-2m", 6)
    made.choose(made.timesteps[2:])
    alpha, sigma = made.rates[0]
    assert torch.allclose(made.add_noise(x0, noise), alpha * x0 + sigma * noise, atol=1e-6)
    assert torch.allclose(walk(made, x0, noise)[-1], x0, atol=1e-3)


# -- randomness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BUILTIN))
def test_global_generators_are_left_alone(engine: Engine, name: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    fields: dict[str, Any] = {"seeds": (1, 2), "scheduler": name, "height": 16, "width": 16, "guidance_scale": 2}
    engine.generate("a cat", steps=2, **fields)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert random.getstate() == before[2]


@pytest.mark.parametrize("name", ["euler-a", "ddpm", "dpm2-a", "dpmpp-sde", "dpmpp-2m-sde", "lcm", "sa-solver"])
def test_noise_within_steps_is_that_of_the_seed(registry: Registry, name: str) -> None:
    x0, noise = pair()
    walked = {seeds: walk(schedule(registry, name), x0, noise, seeds) for seeds in ((3, 4), (4, 3), (3, 9))}
    both, swapped, other = (walked[seeds][-2] for seeds in ((3, 4), (4, 3), (3, 9)))
    assert torch.equal(both, walk(schedule(registry, name), x0, noise, (3, 4))[-2])
    assert torch.equal(both[0], other[0])
    assert not torch.equal(both[1], other[1])
    assert not torch.equal(both[0], swapped[0])


def test_brownian_noise_belongs_to_the_picture(engine: Engine) -> None:
    """dpmpp-sde draws from a Brownian tree of its own: one for each seed, the seed's own."""
    fields: dict[str, Any] = {"steps": 3, "scheduler": "dpmpp-sde", "height": 16, "width": 16, "output": "latent"}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "__array", DeprecationWarning)
        together = engine.generate("a cat", seeds=(2**62, 8), batch_size=1, **fields).latents
    assert [str(warning.message) for warning in seen] == []  # torchsde is not heard
    assert torch.equal(together[1:], engine.generate("a cat", seed=8, **fields).latents)
    assert torch.equal(together[:1], engine.generate("a cat", seed=2**62, **fields).latents)
    assert not torch.equal(together[0], together[1])
