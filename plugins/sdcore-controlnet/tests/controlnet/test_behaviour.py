"""What control does beside being right: sums, ranges, regions, caches, and an engine that is left clean."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sdcore_controlnet import ControlNet, ControlNetPlugin, forward, strength

from sdcore import Branch, Cancelled, Engine, Plugin, hookimpl, ports, replay_picture
from sdcore.events import Stepped
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

from .kit import control_module, engine_for, picture

SMALL: dict[str, Any] = {
    "prompt": "a red cat", "seed": 5, "steps": 4, "height": 32, "width": 32, "scheduler": "ddim", "output": "latent",
}  # fmt: skip


def _latents(*use: Any, engine: Engine | None = None, **fields: Any) -> torch.Tensor:
    result: torch.Tensor = (engine or engine_for("sd1")).generate(**{**SMALL, **fields}, use=use).latents
    return result


def _net(seed: int = 1, **options: Any) -> ControlNet:
    return ControlNet(**{"model": tiny_controlnet("sd1", seed), "image": picture(11), **options})


def _adapter(seed: int = 1, **options: Any) -> ControlNet:
    return ControlNet(**{"model": tiny_t2i_adapter("sd1", seed), "image": picture(11), **options})


def test_any_mixture_in_any_order_is_the_same_to_the_bit() -> None:
    uses = [_net(1), _net(2, scale=0.7), _net(3, scale=-0.4), _adapter(1), _adapter(2, scale=0.6)]
    first = _latents(*uses)
    for order in (uses[::-1], uses[2:] + uses[:2]):
        assert torch.equal(_latents(*order), first)
    alone = [_latents(use) for use in uses]
    assert all(not torch.equal(first, one) for one in alone)


def test_two_halves_are_a_whole() -> None:
    whole, halves = _latents(_net(scale=1.0)), _latents(_net(scale=0.5), _net(scale=0.5))
    assert float((whole - halves).abs().max()) <= 1e-5 * float(whole.abs().max())


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.25, 0.75), (0.5, 1.0), (0.3, 0.31), (0.0, 0.5)])
def test_nets_run_only_in_their_range_and_the_embedding_once(start: float, end: float) -> None:
    module = control_module(tiny_controlnet("sd1", 1))
    calls: Counter[str] = Counter()
    hooks = [
        module.controlnet_cond_embedding.register_forward_hook(lambda *_: calls.update(["embedding"])),
        module.mid_block.register_forward_hook(lambda *_: calls.update(["net"])),
    ]
    try:
        _latents(_net(model=module, start=start, end=end))
    finally:
        for hook in hooks:
            hook.remove()
    wanted = sum(1 - float(i / 4 < start or (i + 1) / 4 > end) for i in range(4))
    assert calls["net"] == wanted
    assert calls["embedding"] == min(wanted, 1)


def test_keys_and_values_of_the_text_are_computed_once() -> None:
    plugin: Any = engine_for("sd1").host.plugin("controlnet")
    _latents(_net())
    net = next(reversed(plugin.nets._nets.values()))[0]
    assert net.remembers
    calls: list[int] = []
    attention = net.module.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    hook = attention.to_k.register_forward_hook(lambda *_: calls.append(1))
    try:
        for mode in ("balanced", "control"):
            calls.clear()
            _latents(_net(mode=mode))
            assert len(calls) == 1
    finally:
        hook.remove()


def test_an_adapter_is_computed_once() -> None:
    import diffusers

    module = diffusers.T2IAdapter.from_pretrained(tiny_t2i_adapter("sd1", 1))
    calls: list[int] = []
    hook = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        assert torch.equal(_latents(_adapter(model=module)), _latents(_adapter()))
    finally:
        hook.remove()
    assert len(calls) == 1


def test_guess_mode_runs_on_half_of_the_rows() -> None:
    module = control_module(tiny_controlnet("sd1", 1))
    rows: list[int] = []
    hook = module.conv_in.register_forward_hook(lambda _m, given, _o: rows.append(given[0].shape[0]))
    try:
        for mode in ("balanced", "control"):
            _latents(_net(model=module, mode=mode), steps=1)
    finally:
        hook.remove()
    assert rows == [2, 1]


def test_scale_zero_loads_nothing_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[ControlNetPlugin])
    plugin: Any = engine.host.plugin("controlnet")
    plain = _latents(engine=engine)
    assert torch.equal(_latents(_net(scale=0.0), _adapter(blocks=(0, 0, 0)), engine=engine), plain)
    assert len(plugin.nets) == 0


def test_nets_stay_loaded_and_the_cache_is_bounded() -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[ControlNetPlugin])
    plugin: Any = engine.host.plugin("controlnet")
    _latents(_net(1), engine=engine)
    first = next(iter(plugin.nets._nets.values()))[0]
    _latents(_net(1), engine=engine)
    assert next(iter(plugin.nets._nets.values()))[0] is first
    for seed in range(2, 7):
        _latents(_net(seed), engine=engine, steps=1)
    assert len(plugin.nets) == 3


def test_a_changed_file_is_loaded_again(tmp_path: Path) -> None:
    import os
    import shutil

    folder = tmp_path / "net"
    shutil.copytree(tiny_controlnet("sd1", 1), folder)
    before = _latents(_net(model=folder))
    other = tiny_controlnet("sd1", 2) / "diffusion_pytorch_model.safetensors"
    written = tmp_path / "written.safetensors"  # not written over: the loaded net is mapped to it
    shutil.copy(other, written)
    os.replace(written, folder / other.name)
    assert not torch.equal(_latents(_net(model=folder)), before)
    assert torch.equal(_latents(_net(model=folder)), _latents(_net(2)))


def test_a_given_module_is_left_alone_and_followed_when_it_is_trained() -> None:
    import diffusers

    module = diffusers.ControlNetModel.from_pretrained(tiny_controlnet("sd1", 1)).double()
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    processors = {name: type(processor) for name, processor in module.attn_processors.items()}
    before = _latents(_net(model=module))
    assert torch.equal(before, _latents(_net()))
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())
    assert {name: type(processor) for name, processor in module.attn_processors.items()} == processors
    with torch.no_grad():
        module.controlnet_mid_block.weight.mul_(3.0)
    assert not torch.equal(_latents(_net(model=module)), before)


def test_modes_are_blocks_that_somebody_chose() -> None:
    soft = strength.factors(7, 1.0, "prompt")
    assert soft == tuple(0.825 ** (6 - place) for place in range(7))
    assert torch.equal(_latents(_net(mode="prompt")), _latents(_net(blocks=soft)))
    assert strength.factors(4, 0.5, "prompt", adapter=True) == (0.125, 0.31, 0.4125, 0.5)
    guess = strength.factors(13, 2.0, "control")
    assert guess[0] == pytest.approx(0.2)
    assert guess[-1] == pytest.approx(2.0)
    uncond_too = _latents(_net(blocks=strength.factors(7, 1.0, "control")))
    assert not torch.equal(_latents(_net(mode="control")), uncond_too)
    alone = {"guidance_scale": 1.0}  # without a negative branch there is no difference
    by_hand = _net(blocks=strength.factors(7, 1.0, "control"))
    assert torch.equal(_latents(_net(mode="control"), **alone), _latents(by_hand, **alone))


def test_a_mask_limits_control_to_a_region() -> None:
    black, white = Image.new("L", (32, 32), 0), Image.new("L", (32, 32), 255)
    assert torch.equal(_latents(_net(mask=black), _adapter(mask=black)), _latents())
    assert torch.equal(_latents(_net(mask=white), _adapter(mask=white)), _latents(_net(), _adapter()))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1.0
    mask[..., 16:18] = 0.5
    (weighed,) = forward.weigh([torch.ones(2, 3, 8, 8)], [2.0], mask, False)
    assert weighed[..., :4].eq(2.0).all()
    assert weighed[..., 4].eq(0.5).all()  # half of a quarter of its pixels: 2 * 0.25
    assert weighed[..., 5:].eq(0.0).all()


def test_a_masked_run_differs_where_the_mask_is_first() -> None:
    left = Image.new("L", (64, 32), 0)
    left.paste(255, (0, 0, 32, 32))
    wide = {"width": 64, "steps": 1}
    use = _net(image=picture(11, 64, 32), blocks=(1, 0, 0, 0, 0, 0, 0), mask=left)
    change = (_latents(use, **wide) - _latents(**wide)).abs()[0].mean(0)
    assert change[:, :6].mean() > 2 * change[:, 12:].mean()


class Extra(Plugin):
    """Asks for a branch of its own."""

    name = "extra"

    @hookimpl
    def step(self, run: Any) -> Any:
        self.seen: dict[str, float] = {}

        def look(inputs: Any, call_next: Any) -> Any:
            total = inputs.mid_residual
            self.seen = {name: float(total[rows].abs().sum()) for name, rows in inputs.rows.items()}
            return call_next(inputs)

        return [ports.branches(lambda step: [Branch("mine")]), ports.unet_call(look)]


@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_branches_of_other_plugins_are_controlled_too(mode: str) -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[ControlNetPlugin, Extra])
    _latents(_net(mode=mode), "extra", engine=engine, steps=1)
    seen = engine.host.plugin("extra").seen  # type: ignore[attr-defined]
    assert seen["cond"] > 0
    assert seen["mine"] == pytest.approx(seen["cond"], rel=1e-5)
    assert (seen["uncond"] == 0) == (mode == "control")


class Part(Plugin):
    """Draws the right half of the picture only."""

    name = "part"

    @hookimpl
    def whole_run(self, run: Any) -> Any:
        window = (0.5, 0.0, 1.0, 1.0)
        return ports.whole_run(lambda request, call_next: call_next(request.replace(width=32, window=window)))


def test_a_pass_that_draws_a_part_sees_its_part_of_the_control_picture() -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[ControlNetPlugin, Part])
    whole = picture(11, 64, 32)
    part = _latents(_net(image=whole), "part", engine=engine, width=64)
    assert torch.equal(part, _latents(_net(image=whole.crop((32, 0, 64, 32))), engine=engine))


@pytest.mark.parametrize(("resize", "box"), [("crop", (16, 0, 48, 32)), ("stretch", (0, 0, 64, 32))])
def test_a_wider_picture_is_fitted(resize: str, box: tuple[int, int, int, int]) -> None:
    wide = picture(11, 64, 32)
    fitted = wide.crop(box).resize((32, 32), Image.Resampling.LANCZOS)
    assert torch.equal(_latents(_net(image=wide, resize=resize)), _latents(_net(image=fitted)))
    padded = Image.new("RGB", (64, 64))
    padded.paste(wide, (0, 16))
    by_hand = padded.resize((32, 32), Image.Resampling.LANCZOS)
    assert torch.equal(_latents(_net(image=wide, resize="pad")), _latents(_net(image=by_hand)))


def test_the_control_picture_is_made_of_the_input_picture() -> None:
    from sdcore_controlnet.preprocess import preprocess_image

    source = picture(3, grain=8)
    edges = preprocess_image("canny", source, low=20, high=60)
    fields = {"image": source, "strength": 0.7, "height": None, "width": None}
    made = _net(image=None, preprocess="canny", preprocess_options={"low": 20, "high": 60})
    assert torch.equal(_latents(made, **fields), _latents(_net(image=edges), **fields))
    assert not torch.equal(_latents(made, **fields), _latents(**fields))
    given = _net(image=source, preprocess="canny", preprocess_options={"low": 20, "high": 60})
    assert torch.equal(_latents(given), _latents(_net(image=edges)))


def test_several_pictures_are_what_their_seeds_give_alone() -> None:
    euler = {"scheduler": "euler", "steps": 3}  # without DDIM's clipping, which magnifies a last digit
    together = _latents(_net(), _adapter(), seed=None, seeds=(5, 6), batch_size=2, **euler)
    for place, seed in enumerate((5, 6)):
        alone = _latents(_net(), _adapter(), seed=seed, **euler)
        assert float((together[place] - alone[0]).abs().max()) <= 1e-4 * float(alone.abs().max())


def test_threads_take_turns() -> None:
    engine = engine_for("sd1")
    wanted = [_latents(use, engine=engine) for use in (_net(1), _net(2))]
    found: dict[int, torch.Tensor] = {}

    def work(place: int) -> None:
        found[place] = _latents(_net(1 + place), engine=engine)

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[place], wanted[place]) for place in (0, 1))


def test_a_picture_can_be_made_again(tmp_path: Path) -> None:
    control = tmp_path / "control.png"
    picture(11).save(control)
    engine = engine_for("sd1")
    use = [ControlNet(model=tiny_controlnet("sd1", 1), image=control, mode="prompt")]
    result = engine.generate(**{**SMALL, "output": "image"}, use=use)
    result.save(tmp_path / "out.png")
    assets = [control, tiny_controlnet("sd1", 1)]
    assert replay_picture(tmp_path / "out.png", engine=engine, allow=assets).identical


def test_requests_with_pictures_go_through_json() -> None:
    from sdcore import GenerateRequest

    engine = engine_for("sd1")
    text = engine.to_json(**SMALL, use=[_net(blocks=(1, 1, 1, 1, 1, 1, 0.5))])
    again = engine.generate(GenerateRequest.from_json(text)).latents
    assert torch.equal(again, _latents(_net(blocks=(1, 1, 1, 1, 1, 1, 0.5))))


def test_importing_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sdcore_controlnet, sys; assert not {'torch', 'diffusers', 'cv2', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_pair_of_kinds_adds_up_on_every_family() -> None:
    for family in ("sd2", "sdxl"):
        net = ControlNet(model=tiny_controlnet(family), image=picture(11))
        adapter = ControlNet(model=tiny_t2i_adapter(family), image=picture(12))
        found = [_latents(*use, engine=engine_for(family)) for use in ((), (net,), (adapter,), (net, adapter))]
        for one, other in itertools.combinations(found, 2):
            assert not torch.equal(one, other)


def test_a_cancelled_run_leaves_nothing_behind() -> None:
    engine = engine_for("sd1")
    plain, controlled = _latents(), _latents(_net(), _adapter())

    def stop(event: Any) -> None:
        if isinstance(event, Stepped) and event.step.index == 1:
            event.run.cancel()

    with pytest.raises(Cancelled):
        engine.generate(**SMALL, use=[_net(), _adapter()], on_event=stop)
    assert torch.equal(_latents(), plain)
    assert torch.equal(_latents(_net(), _adapter()), controlled)


@pytest.mark.parametrize("size", [(40, 32), (36, 44), (52, 36)])
def test_an_adapter_of_sdxl_takes_every_size_that_the_model_takes(size: tuple[int, int]) -> None:
    """It begins with twice the pixels of a latent; the last pixels are repeated to fill them."""
    use = ControlNet(model=tiny_t2i_adapter("sdxl"), image=picture(11), resize="stretch")
    fields = {"width": size[0], "height": size[1], "engine": engine_for("sdxl")}
    found, plain = _latents(use, **fields), _latents(**fields)
    assert found.shape == plain.shape
    assert not torch.equal(found, plain)
