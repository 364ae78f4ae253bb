"""Safe Latent Diffusion: the same as diffusers, beside any guidance, on every family."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from sdcore_safety import Safety, SafetyPlugin
from sdcore_safety.sld import CONCEPT, STRENGTHS, safety_guidance

from sdcore import Contributions, Engine, Plugin, Run, hookimpl, ports
from sdcore.testing.tiny import tiny_folder

from .conftest import PROMPT, engine_of

QUIET: dict[str, Any] = {"checks": ("blocklist",), "early": None}
THEIRS = "diffusers.pipelines.deprecated.stable_diffusion_safe"


def ours(engine: Engine, start: list[torch.Tensor] | None = None, **fields: Any) -> list[torch.Tensor]:
    """Latents after every step; with ``start``, those that a step begins with, from the second on."""
    seen: list[torch.Tensor] = []
    start = start or []

    class Spy(Plugin):
        name = "spy"

        @hookimpl
        def step(self, run: Run) -> Contributions:
            def enter(step: Any, latents: torch.Tensor) -> torch.Tensor | None:
                place = step.index - 1 - (step.count - len(start))
                return start[place].clone() if start and place >= 0 else None

            out = ports.latents_out(lambda step, latents: seen.append(latents.clone()))
            return [ports.latents_in(enter), out]

    with Engine(engine.model, plugins=[SafetyPlugin, Spy]) as watched:
        use = [*fields.pop("use", []), {"plugin": "spy", "options": {}}]
        watched.generate(PROMPT, seed=5, output="latent", use=use, **fields)
    return seen


@functools.cache
def theirs(strength: str, steps: int, scheduler: str, concept: str | None) -> list[torch.Tensor]:
    import importlib

    import diffusers

    pipeline = importlib.import_module(f"{THEIRS}.pipeline_stable_diffusion_safe").StableDiffusionPipelineSafe
    config = importlib.import_module(THEIRS).SafetyConfig
    folder = tiny_folder("sd1", vocabulary="clip")
    base = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    pipe = pipeline(
        **parts,
        scheduler=getattr(diffusers, scheduler).from_config(base.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    if concept is not None:
        pipe.safety_concept = concept
    seen: list[torch.Tensor] = []
    pipe(
        PROMPT, height=32, width=32, num_inference_steps=steps, guidance_scale=7.5, output_type="np",
        generator=torch.Generator().manual_seed(5), callback=lambda i, t, latents: seen.append(latents.clone()),
        **getattr(config, strength.upper()),
    )  # fmt: skip
    return seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("strength", "scheduler", "steps", "concept"),
    [
        pytest.param("weak", "EulerDiscreteScheduler", 17, None, marks=pytest.mark.slow),
        ("medium", "EulerDiscreteScheduler", 12, None),
        ("strong", "PNDMScheduler", 9, "a blue house"),
        ("max", "EulerDiscreteScheduler", 4, None),
    ],
)
def test_same_as_diffusers(strength: str, scheduler: str, steps: int, concept: str | None) -> None:
    wanted = theirs(strength, steps, scheduler, concept)
    safety = Safety(sld=strength, sld_concept=concept or "", **QUIET)  # type: ignore[arg-type]
    name = {"EulerDiscreteScheduler": "euler", "PNDMScheduler": "pndm"}[scheduler]
    fields: dict[str, Any] = {"steps": steps, "guidance_scale": 7.5, "scheduler": name, "height": 32, "width": 32}
    # Each step from the same latents: the threshold is a jump, over which rounding carries elements sooner or later.
    found = ours(engine_of("sd1", vocabulary="clip"), wanted, use=[safety], **fields)
    plain = ours(engine_of("sd1", vocabulary="clip"), **fields)
    assert len(wanted) == steps  # PNDM has a step more, and calls back after the others
    for mine, their in zip(found[-len(wanted) :], wanted, strict=True):
        assert (mine - their).abs().max() <= 1e-5 * max(1.0, float(their.abs().max()))
    assert (plain[-1] - found[-1]).abs().max() > 1e-3  # it does something here


@pytest.mark.filterwarnings("ignore")
def test_a_whole_run_is_that_of_diffusers() -> None:
    """Without latents put in between; the medium setting multiplies rounding least."""
    wanted = theirs("medium", 12, "EulerDiscreteScheduler", None)
    fields: dict[str, Any] = {"steps": 12, "guidance_scale": 7.5, "scheduler": "euler", "height": 32, "width": 32}
    found = ours(engine_of("sd1", vocabulary="clip"), use=[Safety(sld="medium", **QUIET)], **fields)
    assert (found[-1] - wanted[-1]).abs().max() <= 1e-5 * max(1.0, float(wanted[-1].abs().max()))


def test_the_concept_is_that_of_diffusers() -> None:
    import inspect

    from diffusers.pipelines.deprecated.stable_diffusion_safe import pipeline_stable_diffusion_safe as module

    source = inspect.getsource(module).replace('"\n            "', "")
    assert CONCEPT in source


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_acts_on_every_family(family: str, guidance_scale: float) -> None:
    engine = engine_of(family)
    fields: dict[str, Any] = {"steps": 3, "output": "latent", "seed": 2, "guidance_scale": guidance_scale}
    plain = engine.generate(PROMPT, **fields).latents
    off = engine.generate(PROMPT, use=[Safety(**QUIET)], **fields).latents
    on = engine.generate(PROMPT, use=[Safety(sld="max", **QUIET)], **fields).latents
    assert torch.equal(plain, off)
    assert on.isfinite().all()
    assert (on - plain).abs().max() > 1e-3


def test_a_concept_equal_to_the_negative_prompt_changes_nothing() -> None:
    engine = engine_of("sd1")
    fields: dict[str, Any] = {"steps": 3, "output": "latent", "seed": 2, "negative_prompt": "a dog"}
    plain = engine.generate(PROMPT, **fields).latents
    on = engine.generate(PROMPT, use=[Safety(sld="max", sld_concept="a dog", **QUIET)], **fields).latents
    torch.testing.assert_close(on, plain, rtol=1e-4, atol=1e-4)


def test_works_beside_long_prompts() -> None:
    engine = engine_of("sd1")
    text = "a red apple and a blue house, " * 20
    found = engine.generate(text, steps=2, seed=1, use=[Safety(sld="max", **QUIET)])
    assert len(found.images) == 1


def test_a_batch_is_what_each_seed_gives_alone() -> None:
    engine = engine_of("sd1")
    fields: dict[str, Any] = {"steps": 1, "output": "latent", "use": [Safety(sld="max", **QUIET)]}
    both = engine.generate(PROMPT, seeds=(3, 4), **fields).latents
    alone = engine.generate(PROMPT, seeds=(4,), **fields).latents
    near = (both[1:] - alone).abs() <= 1e-4 * (1 + alone.abs())
    assert float(near.float().mean()) > 0.995  # an element at the jump may fall to its other side


def test_a_step_that_is_repeated_goes_on_from_the_step_before() -> None:
    """A plugin that goes every step twice and keeps the second gets what one that goes it once gets."""

    class Twice(Plugin):
        name = "twice"

        @hookimpl
        def step(self, run: Run) -> Contributions:
            def around(args: Any, call_next: Any) -> Any:
                call_next(args)
                return call_next(args)

            return ports.whole_step(around)

    model = engine_of("sd1").model
    fields: dict[str, Any] = {"steps": 4, "output": "latent", "seed": 2, "scheduler": "ddim"}
    safety = Safety(sld="max", **QUIET)
    with Engine(model, plugins=[SafetyPlugin, Twice]) as engine:
        once = engine.generate(PROMPT, use=[safety], **fields).latents
        twice = engine.generate(PROMPT, use=[safety, {"plugin": "twice", "options": {}}], **fields).latents
    torch.testing.assert_close(twice, once, rtol=1e-5, atol=1e-5)


def test_warns_where_the_warm_up_is_longer_than_the_run() -> None:
    from sdcore.events import Warned

    said: list[str] = []
    engine_of("sd1").generate(
        PROMPT, steps=3, seed=1, use=[Safety(sld="weak", **QUIET)],
        on_event=lambda event: said.append(event.message) if isinstance(event, Warned) else None,
    )  # fmt: skip
    assert any("does nothing" in text for text in said)


def test_the_arithmetic_leaves_alone_what_is_far_above_the_concept() -> None:
    cond, uncond, safety = torch.full((1, 1, 1, 3), 2.0), torch.zeros(1, 1, 1, 3), torch.tensor([[[[0.0, 1.999, 3.0]]]])
    guidance, momentum = safety_guidance(cond, uncond, safety, None, STRENGTHS["medium"])
    assert guidance[0, 0, 0, 0] == 0  # the prompt is 2 above: not touched
    assert guidance[0, 0, 0, 1] > 1.9  # within the threshold: 1000 * 0.001 of it
    assert guidance[0, 0, 0, 2] == 3.0
    torch.testing.assert_close(momentum, 0.6 * guidance)
