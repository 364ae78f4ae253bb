"""Model x task x scheduler x guidance x pictures: latents after every step, sdcore against diffusers.

The difference is asserted to be exactly zero: both sides hand the same tensors to the same kernels. Every model,
task and scheduler is run, with guidance and number of pictures taken in turn; the complete cross product is marked
slow. `benchmarks/parity_table.py` writes it down.
"""

from __future__ import annotations

import inspect
from collections import Counter

import diffusers
import pytest

from sdcore.errors import RequestError
from sdcore.registry import Registry
from sdcore.schedulers import BUILTIN, SPACINGS, make_scheduler, register_builtin
from sdcore.testing.tiny import scheduler_config

from .oracle import (
    DEAF,
    MODELS,
    SCHEDULERS,
    SUFFIXES,
    Cell,
    chosen_cells,
    difference,
    every_cell,
    load,
    settings,
    tasks,
    variants,
)

# numpy 2's wishes to torch, from inside diffusers' schedulers; Python itself keeps them from users.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CHOSEN = tuple(chosen_cells())


@pytest.mark.parametrize("cell", CHOSEN, ids=str)
def test_latents_of_every_step(cell: Cell) -> None:
    assert cell.run() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("place", list(tasks()), ids="-".join)
def test_complete_cross_product(place: tuple[str, str]) -> None:
    apart = {str(cell): cell.run() for cell in every_cell() if (cell.model, cell.task) == place}
    assert {name: value for name, value in apart.items() if value} == {}


@pytest.mark.parametrize(("model", "task"), list(tasks()))
def test_own_scheduler(model: str, task: str) -> None:
    assert difference(*load(model).pair(task, None, guidance_scale=7.5)) == 0.0


@pytest.mark.parametrize("scheduler", [None, "ddim", "dpmpp-2m-karras", "heun"])
def test_refiner_draws_from_text_too(scheduler: str | None) -> None:
    """diffusers has no class to compare with."""
    trace = load("refiner").sdcore(prompt="a cat", scheduler=scheduler, seed=3, steps=3, height=32, width=40)
    assert [image.size for image in trace.images] == [(40, 32)]
    assert len(trace.latents) == (5 if scheduler == "heun" else 3)


def test_nothing_is_left_out() -> None:
    """The matrix knows every scheduler of sdcore, and every setting is in the part that always runs."""
    assert set(SCHEDULERS) == set(BUILTIN)
    assert dict(SUFFIXES) == {name: dict(fields) for name, fields in SPACINGS.items()}
    for model, task in tasks():
        cells = [cell for cell in CHOSEN if (cell.model, cell.task) == (model, task)]
        assert {cell.scheduler for cell in cells} >= set(SCHEDULERS) - {"ddim-inverse"}
        assert {(cell.guidance, cell.rescale, cell.count) for cell in cells} == set(settings(model, task))
    left_out = set(variants()) - {cell.scheduler for cell in CHOSEN}
    assert all(name.startswith("dpm2-") for name in left_out)
    assert {cell.scheduler for cell in every_cell()} == {*SCHEDULERS, *variants()}
    assert {cell.model for cell in CHOSEN} == set(MODELS)
    assert max(Counter(map(str, CHOSEN)).values()) == 1


def test_variants_are_those_of_sdcore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdcore.schedulers._fresh", lambda target, config: target)
    registry = Registry()
    register_builtin(registry)
    config = scheduler_config("sd2", "v_prediction")
    accepted = []
    for name in [f"{name}-{suffix}" for name in BUILTIN for suffix in SPACINGS]:
        try:
            make_scheduler(name, config, registry)
        except RequestError:
            continue
        accepted.append(name)
    # diffusers refuses that one itself, when the timesteps are set.
    assert sorted(accepted) == sorted([*variants(), "ddim-inverse-linspace"])


@pytest.mark.parametrize(("name", "suffix"), sorted(DEAF))
def test_deaf_classes(name: str, suffix: str) -> None:
    """What sdcore refuses because a class would ignore it: diffusers indeed makes the same of every value."""
    kind = getattr(diffusers, SCHEDULERS[name][0])
    assert set(SUFFIXES[suffix]) <= set(inspect.signature(kind.__init__).parameters)
    if name == "ddim-inverse":
        with pytest.raises(ValueError, match="linspace is not supported"):
            kind(**SUFFIXES[suffix]).set_timesteps(4)
        return
    plain, set_to = kind(), kind(**SUFFIXES[suffix])
    for scheduler in (plain, set_to):
        scheduler.set_timesteps(4)
    assert plain.timesteps.tolist() == set_to.timesteps.tolist()
