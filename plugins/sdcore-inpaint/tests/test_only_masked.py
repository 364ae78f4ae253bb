"""Cut out, drawn larger, pasted back; sizes; other plugins around and inside; records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sdcore_inpaint import Inpaint

from sdcore import replay_picture
from sdcore.images import cut_window

FIELDS: dict[str, Any] = {"prompt": "a red cat", "steps": 3, "seed": 3, "scheduler": "ddim", "strength": 0.7}


def changed(one: Any, other: Any) -> np.ndarray[Any, Any]:
    return (np.asarray(one) != np.asarray(other)).any(axis=2)


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("size", [(67, 45), (33, 100)])
def test_every_size_comes_back_and_no_pixel_outside_is_touched(
    engine_of: Any, picture: Any, blob: Any, channels: int, only_masked: bool, size: Any
) -> None:
    mask = blob(*size)
    use = [Inpaint(mask=mask, only_masked=only_masked, padding=6, content="fill")]
    result = engine_of("sd1", channels).generate(**FIELDS, image=picture(*size), use=use)
    assert result.image.size == size
    difference = changed(result.image, picture(*size))
    assert not difference[np.asarray(mask) < 128].any()
    assert difference[np.asarray(mask) >= 128].mean() > 0.9


@pytest.mark.parametrize("feather", [0.0, 3.0])
@pytest.mark.parametrize("only_masked", [False, True])
def test_feather_is_where_pixels_may_change(engine_of: Any, picture: Any, only_masked: bool, feather: float) -> None:
    mask = Image.new("L", (67, 45))
    mask.paste(255, (20, 14, 40, 30))
    use = [Inpaint(mask=mask, only_masked=only_masked, padding=6, feather=feather, colour_match=True)]
    difference = changed(engine_of().generate(**FIELDS, image=picture(67, 45), use=use).image, picture(67, 45))
    reach = int(feather)
    near = np.zeros((45, 67), dtype=bool)
    near[14 - reach : 30 + reach, 20 - reach : 40 + reach] = True
    assert not difference[~near].any()
    ring = near.copy()
    ring[14:30, 20:40] = False
    assert difference[ring].any() == bool(feather)


def test_without_composite_the_codecs_version_is_left(engine_of: Any, picture: Any, blob: Any) -> None:
    use = [Inpaint(mask=blob(32, 32), composite=False)]
    difference = changed(engine_of().generate(**FIELDS, image=picture(32, 32), use=use).image, picture(32, 32))
    assert difference[np.asarray(blob(32, 32)) == 0].mean() > 0.5


def test_another_size_that_is_asked_for(engine_of: Any, picture: Any, blob: Any) -> None:
    engine, image, mask = engine_of(), picture(32, 32), blob(32, 32)
    larger = engine.generate(**FIELDS, image=image, width=64, height=48, use=[Inpaint(mask=mask)]).image
    assert larger.size == (64, 48)
    reference = image.resize((64, 48), Image.Resampling.LANCZOS)
    outside = np.asarray(mask.resize((64, 48), Image.Resampling.LANCZOS)) == 0
    assert not changed(larger, reference)[outside].any()
    inside = engine.generate(**FIELDS, image=image, width=64, height=48, use=[Inpaint(mask=mask, only_masked=True)])
    assert inside.image.size == (32, 32)


def test_the_window_is_what_is_drawn(engine_of: Any, picture: Any, blob: Any) -> None:
    engine = engine_of()
    spy: Any = engine.host.plugin("spy")
    image, mask = picture(120, 90), blob(120, 90, (20, 20, 50, 45))
    engine.generate(**FIELDS, image=image, use=["spy", Inpaint(mask=mask, only_masked=True, padding=4)])
    (request,) = spy.requests
    assert (request.width, request.height) == (64, 64)  # the model's own size
    part = cut_window(image, request.window)
    assert part.size == (39, 39)
    assert part.tobytes() == image.crop((16, 14, 55, 53)).tobytes()
    assert spy.runs[0].outer is not None
    spy.clear()
    engine.generate(**FIELDS, image=image, use=["spy", Inpaint(mask=mask)])
    assert spy.requests[0].window is None


def test_a_part_that_is_much_wider_than_high_is_drawn_in_its_proportions(engine_of: Any, picture: Any) -> None:
    engine = engine_of()
    spy: Any = engine.host.plugin("spy")
    mask = Image.new("L", (200, 40))
    mask.paste(255, (30, 10, 170, 30))
    result = engine.generate(**FIELDS, image=picture(200, 40), use=["spy", Inpaint(mask=mask, only_masked=True)])
    assert (spy.requests[0].width, spy.requests[0].height) == (144, 28)
    assert result.image.size == (200, 40)


@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("channels", [4, 9])
def test_hires_fix_is_inside_crop_and_paste(
    engine_of: Any, picture: Any, blob: Any, channels: int, only_masked: bool
) -> None:
    engine, image = engine_of("sd1", channels), picture(80, 72)
    spy: Any = engine.host.plugin("spy")
    mask = blob(80, 72, (24, 20, 44, 40))
    fields = {**FIELDS, "steps": 4, "image": image}
    found, result = {}, image
    for order in (["hires", Inpaint(mask=mask, only_masked=only_masked, padding=6), "spy"],
                  [Inpaint(mask=mask, only_masked=only_masked, padding=6), "spy", "hires"]):  # fmt: skip
        spy.clear()
        result = engine.generate(**fields, use=order).image
        found[str(order[0])] = result.tobytes()
        first, second = spy.requests
        assert (second.width, second.height) == (2 * first.width, 2 * first.height)
        assert first.window == second.window
    assert len(set(found.values())) == 1
    if only_masked:
        assert result.size == (80, 72)
        difference = changed(result, image)
        assert not difference[np.asarray(mask) == 0].any()
        assert difference[np.asarray(mask) == 255].mean() > 0.9
    else:
        assert result.size == (160, 144)
        outside = np.asarray(mask.resize((160, 144), Image.Resampling.LANCZOS)) == 0
        assert not changed(result, image.resize((160, 144), Image.Resampling.LANCZOS))[outside].any()


def test_a_record_with_a_mask_replays(engine_of: Any, picture: Any, blob: Any, tmp_path: Path) -> None:
    engine, mask = engine_of(), blob(50, 45)
    picture(50, 45).save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    for number, given in enumerate((tmp_path / "mask.png", mask, (tmp_path / "mask.png").read_bytes())):
        use = [Inpaint(mask=given, only_masked=True, padding=5, softness="soft", blur=2.0, feather=1.5)]
        result = engine.generate(**FIELDS, image=str(tmp_path / "photo.png"), use=use)
        (saved,) = result.save(tmp_path / f"out{number}.png")
        again = replay_picture(saved, engine=engine, allow=[tmp_path / "photo.png", tmp_path / "mask.png"])
        assert again.identical, again


def test_many_threads_on_one_engine(engine_of: Any, picture: Any, blob: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = engine_of()
    masks = [blob(48, 48, (4 * k, 6, 4 * k + 20, 40)) for k in range(4)]

    def draw(mask: Image.Image) -> bytes:
        use = [Inpaint(mask=mask, only_masked=True, padding=4)]
        return engine.generate(**FIELDS, image=picture(48, 48), use=use).image.tobytes()

    alone = [draw(mask) for mask in masks]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, masks)) == alone
    assert len(set(alone)) == 4


def test_seeds_in_batches_of_any_size(engine_of: Any, picture: Any, blob: Any) -> None:
    engine, mask = engine_of(), blob(67, 45)
    use = [Inpaint(mask=mask, only_masked=True, padding=6)]
    common = {**FIELDS, "image": picture(67, 45), "use": use, "count": 3}
    together = engine.generate(**common, batch_size=3)
    apart = engine.generate(**common, batch_size=1)
    for one, other in zip(together.images, apart.images, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
    assert len({image.tobytes() for image in together.images}) == 3


def test_explain_shows_the_stages(engine_of: Any, picture: Any, blob: Any) -> None:
    plan = str(
        engine_of("sd1", 9).explain(
            **FIELDS, image=picture(32, 32), use=["hires", Inpaint(mask=blob(32, 32), softness="soft")]
        )
    )
    for port in ("whole_run", "encode_image", "initial_latents", "unet_input", "latents_out", "preview"):
        assert f"{port}" in plan
    assert plan.index("inpaint") < plan.index("hires")
