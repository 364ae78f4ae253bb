"""Passes that other plugins make inside: later ones, handed over ones, tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_inpaint import Inpaint, InpaintPlugin, Outpaint, OutpaintPlugin

from sdcore import Engine, Plugin, hookimpl, ports
from sdcore.images import cut_window
from sdcore.testing.parity import Recorder
from sdcore.testing.tiny import tiny_folder

FIELDS: dict[str, Any] = {"steps": 6, "seed": 3, "scheduler": "euler", "strength": 1.0}


class Passes(Plugin):
    """Does what a test says at the port whole_run, and keeps the latents that enter the first step of each pass."""

    name = "passes"
    plan_of: Callable[[Any, Any], Any]
    phase = "passes"

    def __init__(self) -> None:
        self.entered: list[torch.Tensor] = []

    @hookimpl
    def whole_run(self, run: Any) -> Any:
        return ports.whole_run(lambda request, call_next: self.plan_of(request, call_next), phase=self.phase)

    @hookimpl
    def step(self, run: Any) -> Any:
        def enter(step: Any, latents: torch.Tensor) -> None:
            if step.index == 0:
                self.entered.append(latents.clone())

        return ports.latents_in(enter)


def engine_with(plan_of: Callable[[Any, Any], Any], channels: int = 4, phase: str = "passes") -> tuple[Engine, Passes]:
    folder, plugins = tiny_folder("sd1", in_channels=channels), [InpaintPlugin, Passes, Recorder]
    engine = Engine.load(folder, plugins=plugins, device="cpu", dtype="float32")
    passes: Any = engine.host.plugin("passes")
    passes.plan_of, passes.phase = plan_of, phase
    return engine, passes


def box(*edges: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, edges)
    return mask


OUTSIDE = torch.ones(1, 4, 8, 8, dtype=torch.bool)
OUTSIDE[..., 2:5, 2:6] = False


def test_a_later_pass_keeps_the_picture_and_not_what_was_handed_on(picture: Any) -> None:
    def on_zeros(request: Any, call_next: Any) -> Any:
        return call_next(request.replace(image=torch.full((1, 4, 8, 8), 3.0), strength=0.5))

    engine, _ = engine_with(on_zeros)
    use = [Inpaint(mask=box(8, 8, 24, 20)), "passes"]
    later = engine.generate("a red cat", **FIELDS, image=picture(32, 32), use=use).latents
    assert float((later[OUTSIDE] - 3.0).abs().min()) > 0.1


def test_content_is_for_the_pass_that_begins(picture: Any) -> None:
    given = torch.full((1, 4, 8, 8), 3.0)
    entered = []
    for content in ("original", "noise", "nothing"):
        engine, passes = engine_with(lambda request, call_next: call_next(request.replace(image=given, strength=0.5)))
        use = [Inpaint(mask=box(8, 8, 24, 20), content=content), "passes"]
        engine.generate("a red cat", **FIELDS, image=picture(32, 32), use=use)
        entered.append(passes.entered[0])
    assert torch.equal(entered[0], entered[1])
    assert torch.equal(entered[0], entered[2])


@pytest.mark.parametrize("channels", [4, 9])
def test_handed_over_in_the_middle_what_is_kept_is_noisy_too(picture: Any, channels: int) -> None:
    def hand_over(request: Any, call_next: Any) -> Any:
        first = call_next(request.replace(denoising_end=0.5))
        return call_next(request.replace(image=first.latents, denoising_start=0.5))

    engine, passes = engine_with(hand_over, channels)
    mask = box(8, 8, 24, 20)
    result = engine.generate("a red cat", **FIELDS, image=picture(32, 32), use=[Inpaint(mask=mask), "passes"])
    assert np.array_equal(
        np.asarray(result.image)[np.asarray(mask) == 0], np.asarray(picture(32, 32))[np.asarray(mask) == 0]
    )
    if channels == 4:
        clean, second = result.latents, passes.entered[1]
        spread = (second - clean)[OUTSIDE].std() / (second - clean)[~OUTSIDE].std()
        assert 0.3 < float(spread) < 3


@pytest.mark.parametrize("only_masked", [False, True])
def test_tiles_inside_see_their_part_of_the_mask(picture: Any, only_masked: bool) -> None:
    """Two tiles beside each other, cut by another plugin inside: the mask lies in the left one."""

    def halves(request: Any, call_next: Any) -> Any:
        left, top, right, bottom = request.window or (0.0, 0.0, 1.0, 1.0)
        middle = (left + right) / 2
        width = request.width // 2
        outputs = []
        for start, end, share in ((left, middle, (0.0, 0.5)), (middle, right, (0.5, 1.0))):
            part = cut_window(request.image, (share[0], 0.0, share[1], 1.0))
            window = (start, top, end, bottom)
            outputs.append(call_next(request.replace(image=part, width=width, window=window)))
        joined = Image.new("RGB", (request.width, request.height))
        for number, output in enumerate(outputs):
            joined.paste(output.images[0], (number * width, 0))
        return outputs[0].replace(images=(joined,))

    engine, _ = engine_with(halves, phase="canvas")
    recorder: Any = engine.host.plugin("recorder")
    image, mask = picture(64, 64), box(8, 8, 28, 60, size=(64, 64))
    last = []
    for prompt in ("a red cat", "blue dog"):
        recorder.trace.latents.clear()
        use = [Inpaint(mask=mask, only_masked=only_masked, padding=64), "passes", "recorder"]
        result = engine.generate(prompt, **FIELDS, image=image, use=use)
        assert np.array_equal(np.asarray(result.image)[np.asarray(mask) == 0], np.asarray(image)[np.asarray(mask) == 0])
        last.append((recorder.trace.latents[5], recorder.trace.latents[11]))
    differs = [(one != other).any(dim=1)[0] for one, other in zip(*last, strict=True)]
    expected = torch.zeros(16, 8, dtype=torch.bool)
    expected[2:15, 2:7] = True
    assert torch.equal(differs[0], expected)
    assert not differs[1].any()


def test_in_a_soft_mask_the_fill_takes_its_share_alone(picture: Any) -> None:
    """What is encoded is the picture in the dark and the fill in the light."""
    seen: list[torch.Tensor] = []

    class Look(Plugin):
        name = "look"

        @hookimpl
        def latents(self, run: Any) -> Any:
            def encode(args: Any, call_next: Any) -> Any:
                seen.append(args.pixels)
                return call_next(args)

            return ports.encode_image(encode)

    engine = Engine.load(tiny_folder("sd1"), plugins=[InpaintPlugin, Look], device="cpu", dtype="float32")
    grey = Image.new("L", (32, 32))
    grey.paste(51, (8, 8, 24, 24))
    white = grey.point(lambda value: 255 if value else 0)
    image = Image.new("RGB", (32, 32), (255, 255, 255))
    image.paste((0, 0, 0), (8, 8, 24, 24))
    for mask in (grey, white):
        use = [Inpaint(mask=mask, softness="soft", content="fill"), "look"]
        engine.generate("a red cat", **{**FIELDS, "strength": 0.5}, image=image, use=use)
    assert torch.allclose(seen[0][..., 8:24, 8:24], torch.tensor(-0.6), atol=0.02)  # a fifth of the way to white
    assert torch.allclose(seen[1][..., 8:24, 8:24], torch.tensor(1.0), atol=0.02)


def test_colour_match_takes_the_codecs_drift_away(picture: Any) -> None:
    engine, _ = engine_with(lambda request, call_next: call_next(request))
    image, mask = Image.effect_noise((64, 64), 60).convert("RGB"), box(24, 24, 40, 40, size=(64, 64))
    outside = np.asarray(mask) == 0
    drift = []
    for match in (False, True):
        use = [Inpaint(mask=mask, composite=False, colour_match=match)]
        drawn = np.asarray(engine.generate("a red cat", **FIELDS, image=image, use=use).image).astype(float)
        drift.append(np.abs((drawn - np.asarray(image))[outside].mean(axis=0)).max())
    assert drift[1] < drift[0] / 2


@pytest.mark.parametrize(
    ("size", "use", "fields", "canvas"),
    [
        ((32, 32), Inpaint(mask=box(8, 8, 24, 20)), {}, (32, 32)),
        ((35, 33), Inpaint(mask=box(8, 8, 24, 20, size=(35, 33))), {}, (33, 35)),
        ((35, 33), Inpaint(mask=box(8, 8, 24, 20, size=(35, 33))), {"width": 64, "height": 48}, (48, 64)),
        ((80, 33), Inpaint(mask=box(8, 8, 24, 20, size=(80, 33)), only_masked=True), {"width": 32}, (33, 80)),
        ((32, 32), Outpaint(right=40, top=3, round_limit=16), {}, (35, 72)),
    ],
)  # fmt: skip
def test_others_learn_the_canvas_of_what_leaves(
    picture: Any, size: Any, use: Any, fields: dict[str, Any], canvas: tuple[int, int]
) -> None:
    seen = []

    class Look(Plugin):
        name = "look"

        @hookimpl
        def text(self, run: Any) -> None:
            seen.append((run.canvas, run.request.window, run.outer))

    engine = Engine.load(tiny_folder("sd1"), plugins=[InpaintPlugin, OutpaintPlugin, Look], device="cpu")
    result = engine.generate("a", **{**FIELDS, "steps": 1}, image=picture(*size), **fields, use=["look", use])
    assert result.image.size[::-1] == canvas
    assert all(told == canvas for told, _, _ in seen)
    assert seen[0][1:] == (None, None)
    assert len(seen) == 1 or all(window is not None and outer is not None for _, window, outer in seen[1:])
