"""The learning rate's course, against diffusers; the average of weights, against diffusers."""

from contextlib import suppress

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from sdcore_train.config import Schedule
from sdcore_train.optim.ema import Ema
from sdcore_train.optim.schedules import rate

from sdcore import RequestError

STEPS = 23


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize(
    ("settings", "theirs", "more"),
    [
        ({"name": "constant"}, "constant_with_warmup", {}),
        ({"name": "linear"}, "linear", {}),
        ({"name": "cosine"}, "cosine", {}),
        ({"name": "cosine-restarts", "cycles": 3}, "cosine_with_restarts", {"num_cycles": 3}),
        # diffusers ends at 1e-7 whatever the learning rate is
        ({"name": "polynomial", "power": 2.5, "final": 1e-7}, "polynomial", {"power": 2.5}),
    ],
)
def test_parity_with_diffusers(settings, theirs, more, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=STEPS, **more)
    schedule = Schedule(warmup=warmup, **settings)
    for step in range(STEPS + 1):  # after the end theirs rises again
        assert rate(schedule, step, STEPS) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "cosine-restarts"])
def test_it_ends_at_the_final_share(name):
    schedule = Schedule(name=name, warmup=4, final=0.25)
    course = [rate(schedule, step, 50) for step in range(60)]
    assert course[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert course[4:51] == sorted(course[4:51], reverse=True)
    assert course[50:] == [0.25] * 10
    assert min(course[4:]) == 0.25


def test_a_warm_up_longer_than_the_training_only_rises():
    schedule = Schedule(name="cosine", warmup=100)
    assert [rate(schedule, step, 10) for step in (0, 9, 10)] == [0, 0.09, 0.1]


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 4), "b": (5,), "c": ()}
    return {
        key: torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float32).to(dtype))
        for key, s in shapes.items()
    }


@torch.no_grad()
def move(weights: dict[str, torch.nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step + 1)
    for value in weights.values():
        value += torch.randn(value.shape, generator=generator).to(value.dtype)


@pytest.mark.parametrize("decay", [0.6, 0.99])
def test_average_is_that_of_diffusers(decay):
    weights = parameters()
    ours, theirs = Ema(weights, decay), EMAModel(weights.values(), decay=decay)
    for step in range(30):
        move(weights, step)
        ours.update(step)
        theirs.step(weights.values())
    for mine, other in zip(ours.state().values(), theirs.shadow_params, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        assert mine.dtype == torch.float32


def test_without_warm_up_the_decay_is_constant():
    weights = parameters()
    before = {name: value.detach().clone() for name, value in weights.items()}
    average = Ema(weights, 0.75, warmup=False)
    move(weights, 0)
    average.update(0)
    for name, value in average.state().items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * weights[name].detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swap_shows_the_average_and_restores_bit_for_bit(dtype):
    weights = parameters(dtype)
    average = Ema(weights, 0.9)
    for step in range(3):
        move(weights, step)
        average.update(step)
    kept = {name: value.detach().clone() for name, value in weights.items()}
    averages = {name: value.clone() for name, value in average.state().items()}
    places = {name: value.data_ptr() for name, value in weights.items()}
    with suppress(KeyError), average.swap():
        for name, value in weights.items():
            assert torch.equal(value, averages[name].to(dtype))
            assert not torch.equal(value, kept[name])
            assert value.data_ptr() == places[name]
        with pytest.raises(RuntimeError, match="leave swap"):
            average.state()
        with pytest.raises(RuntimeError, match="leave swap"):
            average.update(3)
        raise KeyError
    assert all(torch.equal(value, kept[name]) for name, value in weights.items())
    assert all(torch.equal(value, averages[name]) for name, value in average.state().items())


def test_slow_average_of_16_bit_weights_moves():
    weights = {"a": torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))}
    average = Ema(weights, 0.999, warmup=False)
    with torch.no_grad():
        weights["a"] += 1
    for step in range(100):
        average.update(step)
    assert average.state()["a"].item() == pytest.approx(2 - 0.999**100, rel=1e-4)


def test_load_goes_on_and_refuses_other_parameters():
    weights = parameters()
    first = Ema(weights, 0.9)
    move(weights, 0)
    first.update(0)
    second = Ema(weights, 0.9)
    second.load({name: value.clone() for name, value in first.state().items()})
    for step in (1, 2):
        move(weights, step)
        first.update(step)
        second.update(step)
    assert all(torch.equal(value, second.state()[name]) for name, value in first.state().items())
    before = {name: value.clone() for name, value in second.state().items()}
    with pytest.raises(RequestError, match="'z'"):
        second.load({**before, "z": torch.zeros(1)})
    with pytest.raises(RequestError, match=r"shape \(2,\) and the parameter \(5,\)"):
        second.load({**{name: value + 1 for name, value in before.items()}, "b": torch.zeros(2)})
    assert all(torch.equal(value, before[name]) for name, value in second.state().items())
