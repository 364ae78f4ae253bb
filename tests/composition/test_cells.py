"""Every combination runs, is deterministic, leaves the weights alone, and is what diffusers makes where it can."""

from __future__ import annotations

import functools
import hashlib

import pytest
import torch

from sdcore import Engine
from sdcore.testing.parity import Recorder, Trace, difference, ours
from sdcore.testing.tiny import tiny_folder

from .matrix import CELLS, CONTROLS, LORAS, TASKS, Cell
from .peers import by_diffusers
from .table import PAGE, is_fresh

TOLERANCE = 1e-5


@functools.cache
def engine(family: str) -> Engine:
    return Engine.load(tiny_folder(family), plugins=[Recorder, "installed"], device="cpu", dtype="float32")


@functools.cache
def made(cell: Cell) -> Trace:
    return ours(engine(cell.family), **cell.request)


def weights(of: Engine) -> str:
    digest = hashlib.sha256()
    for name, component in sorted(of.model.components.items()):
        for key, value in component.state_dict().items():
            digest.update(f"{name}.{key}".encode() + value.contiguous().numpy().tobytes())
        for key, module in component.named_modules():
            # transformers puts hooks of its own on text encoders when hidden states are first asked for
            hooks = sum(len(v) for attribute, v in vars(module).items() if attribute.endswith("_hooks"))
            digest.update(f"{key} {'forward' in vars(module)} {hooks if name == 'unet' else 0}".encode())
    return digest.hexdigest()


@functools.cache
def untouched(family: str) -> str:
    return weights(Engine.load(tiny_folder(family), plugins=[], device="cpu", dtype="float32"))


@pytest.mark.parametrize(
    "cell",
    # SD2's U-Net and text encoder are of SD1's classes: its cells are what `make test-slow` adds.
    [pytest.param(cell, marks=[pytest.mark.slow] if cell.family == "sd2" else []) for cell in CELLS],
    ids=str,
)
def test_a_cell(cell: Cell) -> None:
    first = made(cell)
    assert weights(engine(cell.family)) == untouched(cell.family)
    again = ours(engine(cell.family), **cell.request)
    assert difference(first, again) == 0.0
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in again.images]
    for other in cell.without():
        assert first.images[0].tobytes() != made(other).images[0].tobytes(), f"as without: {other}"
    if cell.peer is not None:
        assert difference(first, by_diffusers(cell)) <= TOLERANCE


def test_every_class_that_diffusers_has_is_compared_with() -> None:
    """Two of the five controls and one of the four tasks have no class, for any family."""
    compared = {(cell.task, cell.control) for cell in CELLS if cell.peer is not None}
    assert len(compared) == 10
    assert len(CELLS) >= 3 * len(TASKS) * len(CONTROLS) * len(LORAS) == 180


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_use_does_not_matter(task: str) -> None:
    """Sums commute; two LoRAs of one plugin are added in the order of use, so that rounding may differ."""
    cell = Cell("sd1", task, "ControlNet + T2I-Adapter", "2 LoRAs, one scheduled")
    request = cell.request
    turned = ours(engine("sd1"), **{**request, "use": request["use"][::-1]})
    assert difference(made(cell), turned) <= TOLERANCE
    one = Cell("sd1", task, "ControlNet + T2I-Adapter", "LoRA")
    turned = ours(engine("sd1"), **{**one.request, "use": one.request["use"][::-1]})
    assert torch.equal(made(one).latents[-1], turned.latents[-1])


def test_the_page_lists_these_cells() -> None:
    assert is_fresh(), "docs/composition.md lists other cells: run `make composition`"


def test_the_readme_counts_right() -> None:
    text = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    compared = sum(cell.peer is not None for cell in CELLS)
    assert f"{len(CELLS)} combinations" in text
    assert f"a class for {compared} of them" in text
