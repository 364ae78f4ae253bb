"""What happens when: the blend after the scheduler, the preview after the blend, the order of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sdcore_inpaint import Inpaint

FIELDS: dict[str, Any] = {"prompt": "a red cat", "steps": 4, "scheduler": "ddim", "seed": 3}


def latent_mask(mask: Any) -> torch.Tensor:
    """The hard mask at the places of the latents of a tiny model, 4 pixels apart."""
    return torch.from_numpy(np.asarray(mask)[::4, ::4] >= 128)


def test_what_is_kept_is_put_back_after_the_scheduler(engine_of: Any, picture: Any, blob: Any) -> None:
    engine, mask = engine_of(), blob(32, 32)
    spy: Any = engine.host.plugin("spy")
    recorder: Any = engine.host.plugin("recorder")
    recorder.trace.latents.clear()
    result = engine.generate(image=picture(32, 32), strength=0.8, use=[Inpaint(mask=mask), "spy", "recorder"], **FIELDS)
    inside = latent_mask(mask).expand(1, 4, 8, 8)
    steps = list(zip(spy.scheduled, recorder.trace.latents, strict=True))
    assert len(steps) == 3
    for made, left in steps:
        assert torch.equal(made[inside], left[inside])
        assert not torch.isclose(made[~inside], left[~inside]).any()
    # The last blend is with the picture itself, without noise: whatever the prompt, the same.
    other = engine.generate(
        **{**FIELDS, "prompt": "blue dog"}, image=picture(32, 32), strength=0.8, use=[Inpaint(mask=mask)]
    )
    assert torch.equal(result.latents[~inside], other.latents[~inside])
    assert not torch.equal(result.latents[inside], other.latents[inside])


@pytest.mark.parametrize("channels", [4, 9])
def test_previews_show_what_is_kept(engine_of: Any, picture: Any, blob: Any, channels: int) -> None:
    engine, mask = engine_of("sd1", channels), blob(32, 32)
    spy: Any = engine.host.plugin("spy")
    result = engine.generate(image=picture(32, 32), strength=1.0, use=["spy", Inpaint(mask=mask)], **FIELDS)
    inside = latent_mask(mask).expand(1, 4, 8, 8)
    assert len(spy.previews) == 4
    for shown in spy.previews:
        assert torch.equal(shown[~inside], spy.previews[0][~inside])
        if channels == 4:
            assert torch.equal(shown[~inside], result.latents[~inside])
    assert not torch.equal(spy.previews[0][inside], spy.previews[1][inside])


@pytest.mark.parametrize(
    ("channels", "strength", "encoded"),
    [(4, 1.0, ["image"]), (4, 0.6, ["image"]), (9, 1.0, ["masked image"]), (9, 0.6, ["image", "masked image"])],
)
def test_the_order_of_random_numbers(
    engine_of: Any, picture: Any, blob: Any, channels: int, strength: float, encoded: list[str]
) -> None:
    engine = engine_of("sd1", channels)
    spy: Any = engine.host.plugin("spy")
    use = [Inpaint(mask=blob(32, 32)), "spy"]
    engine.generate(image=picture(32, 32), strength=strength, count=2, batch_size=2, use=use, **FIELDS)
    assert spy.purposes == [purpose for purpose in encoded for _ in range(2)]
    draws = 2 if channels == 9 and strength == 1.0 else 3
    for place, state in enumerate(spy.states[0]):
        generator = torch.Generator().manual_seed(3 + place)
        for _ in range(draws):
            torch.randn((1, 4, 8, 8), generator=generator)
        assert torch.equal(state, generator.get_state())


def test_a_picture_of_a_batch_is_the_one_its_seed_gives(engine_of: Any, picture: Any, blob: Any) -> None:
    for channels in (4, 9):
        engine = engine_of("sd1", channels)
        use = [Inpaint(mask=blob(32, 32), content="noise")]
        common = {**FIELDS, "image": picture(32, 32), "strength": 0.8, "use": use, "scheduler": "euler-a"}
        batch = engine.generate(**common, count=3, batch_size=3)
        for index in range(3):
            alone = engine.generate(**{**common, "seed": 3 + index})
            assert (batch.latents[index] - alone.latents[0]).abs().max() < 1e-4


def test_contents_differ_below_full_strength(engine_of: Any, picture: Any, blob: Any) -> None:
    engine, mask = engine_of(), blob(32, 32)
    found = {}
    for content in ("original", "fill", "noise", "nothing"):
        use = [Inpaint(mask=mask, content=content)]
        found[content] = engine.generate(**FIELDS, image=picture(32, 32), strength=0.5, use=use)
    mean = engine.generate(
        **FIELDS, image=picture(32, 32), strength=0.5, use=[Inpaint(mask=mask, content="fill", fill="mean")]
    )
    pictures = [result.image.tobytes() for result in (*found.values(), mean)]
    assert len(set(pictures)) == 5
    outside = np.asarray(mask) < 128
    for result in found.values():
        assert np.array_equal(np.asarray(result.image)[outside], np.asarray(picture(32, 32))[outside])


def test_strength_zero_keeps_the_picture(engine_of: Any, picture: Any, blob: Any) -> None:
    for channels in (4, 9):
        use = [Inpaint(mask=blob(32, 32))]
        result = engine_of("sd1", channels).generate(**FIELDS, image=picture(32, 32), strength=0.0, use=use)
        assert result.image.size == (32, 32)


def test_nothing_is_left_behind(engine_of: Any, picture: Any, blob: Any) -> None:
    engine = engine_of()
    plain = engine.generate(**FIELDS, image=picture(32, 32), strength=0.6)
    engine.generate(**FIELDS, image=picture(32, 32), strength=0.6, use=[Inpaint(mask=blob(32, 32))])
    assert engine.generate(**FIELDS, image=picture(32, 32), strength=0.6).image.tobytes() == plain.image.tobytes()


def test_a_step_in_tiles_is_refused_by_name(picture: Any, blob: Any) -> None:
    from sdcore_inpaint import InpaintPlugin

    from sdcore import Engine, Plugin, PluginError, hookimpl, ports
    from sdcore.testing.tiny import tiny_folder

    class Tiles(Plugin):
        name = "tiles"

        @hookimpl
        def step(self, run: Any) -> Any:
            def halves(args: Any, call_next: Any) -> Any:
                parts = [call_next(args.replace(latents=half)) for half in args.latents.chunk(2, dim=-1)]
                return torch.cat(parts, dim=-1)

            return ports.whole_step(halves)

    engine = Engine.load(tiny_folder("sd1"), plugins=[InpaintPlugin, Tiles])
    with pytest.raises(PluginError, match=r"inpaint.*tiles around the U-Net call"):
        engine.generate(**FIELDS, image=picture(32, 32), strength=0.6, use=[Inpaint(mask=blob(32, 32)), "tiles"])
