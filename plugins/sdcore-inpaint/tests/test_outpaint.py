"""The canvas grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sdcore_inpaint import Outpaint
from sdcore_inpaint.outpaint import masks

from sdcore import Cancelled, RequestError, replay_picture
from sdcore.events import Stepped

FIELDS: dict[str, Any] = {"prompt": "a red cat", "steps": 2, "seed": 3, "scheduler": "ddim", "strength": 1.0}


def inner(image: Any, at: tuple[int, int], size: tuple[int, int], overlap: int) -> Any:
    """The part of a result that holds given pixels beyond the overlap."""
    left, top = at
    right, bottom = left + size[0], top + size[1]
    box = (
        left + (overlap if left else 0),
        top + (overlap if top else 0),
        right - (overlap if right < image.width else 0),
        bottom - (overlap if bottom < image.height else 0),
    )
    return image.crop(box), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)


GROWTH: list[tuple[tuple[int, int], dict[str, Any], tuple[int, int], tuple[int, int], int]] = [
    ((64, 64), {"left": 16}, (80, 64), (16, 0), 1),
    ((64, 64), {"right": 13, "bottom": 7}, (77, 71), (0, 0), 1),
    ((50, 40), {"left": 3, "top": 5, "right": 7, "bottom": 11}, (60, 56), (3, 5), 1),
    ((64, 48), {"width": 101, "height": 77}, (101, 77), (18, 14), 6),
    ((48, 48), {"width": 60, "anchor": "right"}, (60, 48), (12, 0), 1),
    ((40, 40), {"right": 90, "round_limit": 16}, (130, 40), (0, 0), 6),
    ((130, 90), {"left": 20, "bottom": 20}, (150, 110), (20, 0), 5),
]


@pytest.mark.parametrize(
    ("channels", "size", "options", "canvas", "at", "rounds"),
    [(4, *growth) for growth in GROWTH] + [(9, *growth) for growth in (GROWTH[1], GROWTH[3])],
)
def test_the_size_is_exact_and_the_inner_pixels_stay(
    engine_of: Any, picture: Any, channels: int, size: Any, options: Any, canvas: Any, at: Any, rounds: int
) -> None:
    engine, image = engine_of("sd1", channels), picture(*size)
    spy: Any = engine.host.plugin("spy")
    result = engine.generate(**FIELDS, image=image, use=[Outpaint(**options, overlap=5), "spy"]).image
    assert result.size == canvas
    kept, box = inner(result, at, size, 5)
    assert kept.tobytes() == image.crop(box).tobytes()
    assert len(spy.requests) == rounds
    for request in spy.requests:
        assert request.window is not None
        assert request.width % 4 == request.height % 4 == 0
        assert 0.9 * 64 * 64 <= request.width * request.height <= 1.6 * 64 * 64
    # Something was drawn everywhere that is new: nothing is left of the black that a canvas begins with.
    new = np.ones(canvas[::-1], dtype=bool)
    new[at[1] : at[1] + size[1], at[0] : at[0] + size[0]] = False
    assert (np.asarray(result).sum(axis=2)[new] == 0).mean() < 0.5
    assert np.asarray(result)[new].std() > 5


def test_the_band_is_redrawn_softly(engine_of: Any, picture: Any) -> None:
    image = picture(64, 64)
    result = engine_of().generate(**FIELDS, image=image, use=[Outpaint(left=16, overlap=12)]).image
    change = np.abs(np.asarray(result)[:, 16:].astype(int) - np.asarray(image)).mean(axis=(0, 2))
    assert change[:8].mean() > 5
    assert change[11] < change[:8].mean()
    assert not change[12:].any()
    feathered = engine_of().generate(**FIELDS, image=image, use=[Outpaint(left=16, overlap=12, feather=6)]).image
    change = np.abs(np.asarray(feathered)[:, 16:].astype(int) - np.asarray(image)).mean(axis=(0, 2))
    assert change[13] > 0
    assert not change[20:].any()


def test_masks_fall_from_the_unknown() -> None:
    known = np.zeros((10, 20), dtype=bool)
    known[:, 8:] = True
    hole, band = (np.asarray(mask) for mask in masks(known, 3))
    assert hole[0].tolist() == [255] * 8 + [0] * 12
    assert band[0, 6:13].tolist() == [255, 255, 191, 128, 64, 0, 0]
    assert np.asarray(masks(known, 0)[1])[0, 6:10].tolist() == [255, 255, 0, 0]


def test_contents_and_fills_differ(engine_of: Any, picture: Any) -> None:
    fields = {**FIELDS, "strength": 0.5, "steps": 4, "image": picture(64, 64)}
    options = [{"fill": "edge"}, {"fill": "mean"}, {"content": "noise"}, {"content": "nothing"}, {"colour_match": True}]
    pictures = [engine_of().generate(**fields, use=[Outpaint(right=16, **one)]).image.tobytes() for one in options]
    assert len(set(pictures)) == len(options)


def test_every_picture_of_a_batch_has_a_canvas_of_its_own(engine_of: Any, picture: Any) -> None:
    for channels in (4, 9):
        engine = engine_of("sd1", channels)
        common = {**FIELDS, "image": picture(48, 48), "use": [Outpaint(right=60, round_limit=24)], "count": 3}
        together, apart = engine.generate(**common, batch_size=3), engine.generate(**common, batch_size=1)
        for one, other in zip(together.images, apart.images, strict=True):
            assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean() < 0.5
        assert len({image.tobytes() for image in together.images}) == 3


def test_rounds_do_not_repeat_the_noise(engine_of: Any, picture: Any) -> None:
    engine = engine_of()
    spy: Any = engine.host.plugin("spy")
    engine.generate(**FIELDS, image=picture(48, 48), use=[Outpaint(right=60, round_limit=24), "spy"])
    seeds = [request.seeds for request in spy.requests]
    assert seeds[0] == (3,)
    assert len(set(seeds)) == len(seeds) > 1


def test_hires_fix_is_inside_the_rounds(engine_of: Any, picture: Any) -> None:
    image = picture(48, 48)
    for channels in (4, 9):
        use = ["hires", Outpaint(right=40, round_limit=24, overlap=4)]
        result = engine_of("sd1", channels).generate(**{**FIELDS, "steps": 4}, image=image, use=use).image
        assert result.size == (88, 48)
        assert result.crop((0, 0, 44, 48)).tobytes() == image.crop((0, 0, 44, 48)).tobytes()


def test_cancelled_between_rounds_the_engine_is_clean(engine_of: Any, picture: Any) -> None:
    engine = engine_of()
    request = {**FIELDS, "image": picture(48, 48), "use": [Outpaint(right=60, round_limit=24)]}
    before = engine.generate(**request).image.tobytes()
    plain = engine.generate("a dog", seed=1, steps=2).image.tobytes()
    seen: list[Stepped] = []

    def stop(event: Any) -> None:
        if isinstance(event, Stepped):
            seen.append(event)
            if len(seen) == 3:  # in the second round
                event.run.cancel()

    with pytest.raises(Cancelled):
        engine.generate(**request, on_event=stop)
    assert len(seen) == 3
    assert engine.generate("a dog", seed=1, steps=2).image.tobytes() == plain
    assert engine.generate(**request).image.tobytes() == before


def test_a_record_replays(engine_of: Any, picture: Any, tmp_path: Path) -> None:
    engine = engine_of()
    picture(48, 40).save(tmp_path / "photo.png")
    result = engine.generate(
        **FIELDS, image=str(tmp_path / "photo.png"), use=[Outpaint(left=30, bottom=9, round_limit=16)]
    )
    (saved,) = result.save(tmp_path / "wide.png")
    assert replay_picture(saved, engine=engine, allow=[tmp_path / "photo.png"]).identical


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is to grow"),
        ({"left": -1}, "greater than or equal to 0"),
        ({"left": 8, "width": 100}, "keep one way"),
        ({"left": 8, "anchor": "middle"}, "anchor"),
        ({"left": 8, "content": "original"}, "content"),
        ({"lefft": 8}, "Did you mean 'left'"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Outpaint(**options)


def test_wrong_requests(engine_of: Any, picture: Any) -> None:
    import torch

    engine, image = engine_of(), picture(64, 64)
    spy: Any = engine.host.plugin("spy")
    cases: list[tuple[dict[str, Any], Outpaint, str]] = [
        ({"image": image}, Outpaint(width=64), "not larger than the picture of 64x64"),
        ({"image": image}, Outpaint(width=90, height=40), "90x40 is not larger"),
        ({"image": image, "width": 96}, Outpaint(left=16), "asks for 96x64.*canvas, 80x64"),
        ({"image": image, "output": "latent"}, Outpaint(left=16), "output is 'latent'"),
        ({"image": image}, Outpaint(left=16_000, top=16_000), "the limit is"),
        ({"image": torch.zeros(1, 4, 16, 16)}, Outpaint(left=16), "latents; give the picture"),
    ]
    for fields, options, message in cases:
        with pytest.raises(RequestError, match=message):
            engine.generate(**FIELDS, **fields, use=[options, "spy"])
    with pytest.raises(RequestError, match="no picture"):
        engine.generate("a cat", use=[Outpaint(left=8)])
    with pytest.raises(RequestError, match="used 2 times"):
        engine.generate(**FIELDS, image=image, use=[Outpaint(left=8), Outpaint(top=8)])
    assert not spy.requests


def test_where_an_anchor_puts_the_picture() -> None:
    for anchor, at in (("center", (18, 14)), ("left", (0, 14)), ("bottom-right", (37, 29)), ("top", (18, 0))):
        assert Outpaint(width=101, height=77, anchor=anchor).box(64, 48) == (*at, 101, 77)
    assert Outpaint(height=60).box(64, 48) == (0, 6, 64, 60)


def test_a_picture_that_is_no_multiple_of_the_codecs_factor(engine_of: Any) -> None:
    image = Image.effect_noise((51, 37), 60).convert("RGB")
    result = engine_of().generate(**FIELDS, image=image, use=[Outpaint(top=6, overlap=3)]).image
    assert result.size == (51, 43)
    assert result.crop((0, 9, 51, 43)).tobytes() == image.crop((0, 3, 51, 37)).tobytes()
