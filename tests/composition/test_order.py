"""The pairs whose order matters, as far as LoRA, ControlNet and inpainting take part in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from sdcore import Engine, Plugin, Use, hookimpl, ports
from sdcore.events import Stepped
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet
from sdcore.testing.tiny_lora import tiny_lora

from .matrix import CONTROLS, NEGATIVE, PROMPT, SEED, SIZE, control, mask, picture

REQUEST: dict[str, Any] = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "seed": SEED,
    "steps": 3,
    "scheduler": "ddim",
    "guidance_scale": 4.0,
}
INPAINT = Use(plugin="inpaint", options={"mask": mask()})


def watcher(**hooks: Callable[[Any], Any]) -> type[Plugin]:
    """A plugin "watcher" with these hooks."""
    body = {hook: hookimpl(_method(function)) for hook, function in hooks.items()}
    return type("WatcherPlugin", (Plugin,), {"name": "watcher", **body})


def _method(function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: Any, run: Any) -> Any:
        return function(run)

    return method


def engine(*plugins: type[Plugin], family: str = "sd1", **settings: Any) -> Engine:
    return Engine.load(tiny_folder(family, **settings), plugins=[*plugins, "installed"], device="cpu")


def test_the_mask_is_blended_after_the_scheduler_and_before_the_previews() -> None:
    """The scheduler's result is not blended yet; what leaves the step and what previews show is."""
    made: list[torch.Tensor] = []
    left: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    clean: list[torch.Tensor] = []

    def step(run: Any) -> Any:
        def scheduler(args: Any, call_next: Any) -> Any:
            made.append(call_next(args))
            return made[-1]

        return [
            ports.scheduler_step(scheduler),
            ports.latents_out(lambda step, latents: left.append(latents), after=["inpaint"]),
            ports.preview(lambda step, x0: shown.append(x0), after=["inpaint"]),
        ]

    watch = watcher(step=step, latents=lambda run: ports.initial_latents(lambda i: clean.append(i.image)))
    previews: list[Image.Image] = []

    def look(event: Any) -> None:
        if isinstance(event, Stepped):
            previews.extend(event.preview())

    with engine(watch) as here:
        here.generate(**REQUEST, image=picture(), strength=1.0, use=[INPAINT, "watcher"], on_event=look)
    kept = slice(0, SIZE // 4 // 2)
    assert len(made) == len(left) == len(shown) == len(previews) == 3
    for before, after, x0 in zip(made, left, shown, strict=True):
        assert not torch.equal(before[..., kept], after[..., kept])
        assert torch.equal(before[..., kept.stop :], after[..., kept.stop :])
        assert torch.equal(x0[..., kept], clean[0][..., kept])
    assert torch.equal(left[-1][..., kept], clean[0][..., kept])


@pytest.mark.parametrize("use", [("watcher", "inpaint"), ("inpaint", "watcher")])
def test_crop_and_paste_are_outside_of_hires_fix(use: tuple[str, str]) -> None:
    """Hires-fix sees the cropped picture in both its passes; the result is pasted once, at the size of the input."""
    sizes: list[tuple[int, int]] = []

    def hook(run: Any) -> Any:
        def hires(request: Any, call_next: Any) -> Any:
            sizes.append((request.width, request.height))
            first = call_next(request)
            large = request.replace(width=request.width * 2, height=request.height * 2, image=first.images[0])
            sizes.append((large.width, large.height))
            second = call_next(large)
            images = tuple(image.resize((request.width, request.height)) for image in second.images)
            return first.replace(images=images)

        return ports.whole_run(hires)

    big = picture().resize((96, 96))
    marked = Image.new("L", big.size)
    marked.paste(255, (40, 40, 56, 56))
    given = {
        "inpaint": Use(plugin="inpaint", options={"mask": marked, "only_masked": True, "padding": 8}),
        "watcher": "watcher",
    }
    fields = {"image": big, "strength": 0.7, "height": SIZE, "width": SIZE}
    with engine(watcher(whole_run=hook)) as here:
        result = here.generate(**REQUEST, **fields, use=[given[name] for name in use])
    assert sizes == [(SIZE, SIZE), (2 * SIZE, 2 * SIZE)]
    assert result.image.size == big.size
    outside = Image.composite(Image.new("RGB", big.size), result.image, marked)
    assert outside.tobytes() == Image.composite(Image.new("RGB", big.size), big, marked).tobytes()
    assert result.image.tobytes() != big.tobytes()


def test_a_controlnet_is_told_what_the_changed_text_encoder_says(tmp_path: Any) -> None:
    """A LoRA of the text encoder changes what the ControlNet gives: its weights are in before the text is read."""
    file = tiny_lora(tmp_path / "text.safetensors", "sd1", targets=["text"], scale=0.5)
    residuals: dict[str, torch.Tensor] = {}
    now = [""]

    def step(run: Any) -> Any:
        def note(inputs: Any) -> None:
            if inputs.step.index == 0:
                residuals[now[0]] = inputs.mid_residual

        return ports.unet_input(note, after=["controlnet"])

    net = Use(plugin="controlnet", options={"model": str(tiny_controlnet("sd1")), "image": control("lines")})
    lora = Use(plugin="lora", options={"path": str(file)})
    with engine(watcher(step=step)) as here:
        for name, use in {"plain": [net], "after": [net, lora], "before": [lora, net]}.items():
            now[0] = name
            here.generate(**REQUEST, height=SIZE, width=SIZE, use=[*use, "watcher"])
    assert not torch.equal(residuals["plain"], residuals["before"])
    assert torch.equal(residuals["before"], residuals["after"])


def test_caching_around_the_unet_sees_the_residuals_of_controls() -> None:
    """Whoever wraps the U-Net's call decides with what controls add in view, so that it caches nothing stale."""
    seen: list[bool] = []

    def step(run: Any) -> Any:
        def around(inputs: Any, call_next: Any) -> Any:
            seen.append(inputs.down_residuals is not None and inputs.intrablock_residuals is not None)
            return call_next(inputs)

        return ports.unet_call(around)

    with engine(watcher(step=step)) as here:
        use = ["watcher", *CONTROLS["ControlNet + T2I-Adapter"]("sd1", "txt2img")]
        here.generate(**REQUEST, height=SIZE, width=SIZE, use=use)
    assert seen == [True, True, True]


def test_tiles_are_outside_of_branches() -> None:
    """A stage around the whole step splits the canvas into halves: branches are asked for each half."""
    sizes: list[tuple[int, ...]] = []

    def step(run: Any) -> Any:
        def halves(args: Any, call_next: Any) -> Any:
            parts = [call_next(args.replace(latents=half)) for half in args.latents.chunk(2, dim=3)]
            return torch.cat(parts, dim=3)

        return [ports.whole_step(halves), ports.unet_input(lambda inputs: sizes.append(tuple(inputs.sample.shape)))]

    with engine(watcher(step=step)) as here:
        here.generate(**REQUEST, height=SIZE, width=2 * SIZE, use=["watcher"])
    assert sizes == [(2, 4, 8, 8)] * 6


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_control_of_the_whole_is_cut_where_only_the_masked_part_is_drawn(family: str) -> None:
    """The control picture belongs to the whole input; of a quarter that is drawn the net sees the quarter."""
    seen: list[Any] = []
    big = picture().resize((128, 128))
    marked = Image.new("L", big.size)
    marked.paste(255, (8, 8, 56, 56))
    inpaint = Use(plugin="inpaint", options={"mask": marked, "only_masked": True, "padding": 8})

    def hook(run: Any) -> Any:
        if run.outer is not None:
            seen.append(run.request.window)

    whole = Image.effect_noise((256, 256), 90).convert("RGB")
    fields = {"image": big, "strength": 0.7, "height": SIZE, "width": SIZE}
    net = str(tiny_controlnet(family))
    with engine(watcher(text=hook), family=family) as here:
        use = [inpaint, Use(plugin="controlnet", options={"model": net, "image": whole}), "watcher"]
        result = here.generate(**REQUEST, **fields, use=use)
        left, top, right, bottom = seen[0]
        box = tuple(round(edge * 256) for edge in (left, top, right, bottom))
        # By hand: the cut control for the cut picture.
        cut = big.crop(tuple(round(edge * 128) for edge in (left, top, right, bottom)))  # type: ignore[arg-type]
        small = marked.crop(tuple(round(edge * 128) for edge in (left, top, right, bottom)))  # type: ignore[arg-type]
        by_hand = here.generate(
            **REQUEST,
            image=cut,
            strength=0.7,
            height=SIZE,
            width=SIZE,
            use=[
                Use(plugin="inpaint", options={"mask": small}),
                Use(plugin="controlnet", options={"model": net, "image": whole.crop(box)}),  # type: ignore[arg-type]
            ],
        )
    assert (right - left) < 0.75
    assert torch.allclose(result.latents, by_hand.latents, atol=1e-5)


def test_a_control_of_a_grown_canvas_belongs_to_the_grown_canvas() -> None:
    """Outpainting to twice the width: the control has the shape of the result, and is refused in that of the input."""
    use = Use(plugin="outpaint", options={"right": SIZE})
    net = str(tiny_controlnet("sd1"))
    wide = Image.effect_noise((2 * SIZE, SIZE), 90).convert("RGB")
    with engine() as here:
        fields: dict[str, Any] = {**REQUEST, "image": picture(), "strength": 1.0}
        plain = here.generate(**fields, use=[use])
        result = here.generate(**fields, use=[use, Use(plugin="controlnet", options={"model": net, "image": wide})])
        assert result.image.size == (2 * SIZE, SIZE)
        assert result.image.tobytes() != plain.image.tobytes()
