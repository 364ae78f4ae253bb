"""Fields of a request: unknown, out of range, against each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sdcore import Engine, GenerateRequest, PluginLoadError, RequestError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, with NumPy 2
Refused = Callable[..., str]
PICTURE = "data:,"  # refused only after what is tested here


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("stepz", "steps"),
        ("guidence_scale", "guidance_scale"),
        ("num_inference_step", "num_inference_steps"),
        ("negative", "negative_prompt"),
        ("qqqq", "Known: "),
        ("", "Known: "),
    ],
)
def test_unknown_field(refused: Refused, field: str, hint: str) -> None:
    assert hint in refused(RequestError, f"no field {field!r}", **{field: 1})


def test_a_field_by_two_names(refused: Refused) -> None:
    refused(RequestError, "'steps' is given twice", "num_inference_steps", num_inference_steps=3)


@pytest.mark.parametrize(
    ("name", "hint"), [("dail", "'dial'"), ("lora", "pip install sdcore-lora"), ("Dial", "'dial'")]
)
def test_unknown_plugin(refused: Refused, name: str, hint: str) -> None:
    assert hint in refused(PluginLoadError, f"there is no plugin {name!r}", use=[f"{name}:amount=1"])


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("dial:amonut=1", ["dial", "no option 'amonut'", "'amount'", "sdcore plugins info dial"]),
        ("dial:amount=1.5", ["dial", "amount", "less than or equal to 1", "1.5"]),
        ("dial:amount=NaN", ["dial", "amount", "finite"]),
        ({"plugin": "dial", "options": {"amount": math.inf}}, ["dial", "amount", "finite"]),
        ("dial:amount=loud", ["dial", "amount", "loud"]),
        ("switch:amount=1", ["'switch' has no options", "'amount'"]),
        ("dial:amount", ["'amount'", "no name and '='", "name:option=value"]),
        ("dial:amount=1,amount=2", ["'amount' is given twice"]),
        (":amount=1", ["names no plugin"]),
        ({"name": "dial"}, ['{"plugin": "lora", "options": {...}}', "'name': 'dial'"]),
        (7, ["list of options", "int"]),
        ([7], ["options, a text or a mapping", "int"]),
        (b"dial", ["list of options", "bytes"]),
    ],
)
def test_wrong_options(refused: Refused, use: Any, words: list[str]) -> None:
    refused(RequestError, *words, use=use)


def test_the_class_instead_of_options(refused: Refused, engine: Engine) -> None:
    options = engine.host.plugin("dial").options
    refused(RequestError, "Dial is the class", "Dial(...)", use=[options])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("eular", "'euler'"),
        ("dpmpp-2m-karas", "'dpmpp-2m-karras'"),
        ("Euler a", "'euler-a'"),
        ("cranck", "'crank'"),  # a plugin's
        ("", "Known: "),
        ("euler\u00e4", "'euler'"),
        ("zzz", "karras"),
    ],
)
def test_unknown_scheduler(refused: Refused, name: str, hint: str) -> None:
    assert hint in refused(RequestError, f"no scheduler {name!r}", scheduler=name)


def test_spacing_that_a_scheduler_lacks(refused: Refused) -> None:
    refused(RequestError, "ddim-karras", "no karras spacing", "trailing", scheduler="ddim-karras")


OUT_OF_RANGE: list[tuple[str, Any]] = [
    *(("seed", value) for value in (-1, 2**63, 1.5, math.nan, "one", True)),
    *(("count", value) for value in (0, -1, 10_001, math.inf)),
    *(("steps", value) for value in (0, -1, 10_001, 2.5, math.nan, True, "many")),
    *(("guidance_scale", value) for value in (-0.1, 1001, math.nan, math.inf, -math.inf, "nan", np.float32("nan"))),
    *(("guidance_rescale", value) for value in (-0.1, 1.1, math.nan, None)),
    *(("height", value) for value in (0, -16, 7, 16_385, 2**70, math.inf)),
    *(("width", value) for value in (0, -16, 7, 16_385, 2**70, "wide")),
    *(("strength", value) for value in (-0.1, 1.1, math.nan)),
    *(("clip_skip", value) for value in (-1, 25, 0.5)),
    *(("eta", value) for value in (-0.1, 1.1, math.nan)),
    *(("denoising_start", value) for value in (-0.1, 1.1, math.nan)),
    *(("denoising_end", value) for value in (0, -0.1, 1.1, math.nan)),
    *(("window", value) for value in ((-1, 0, 1, 1), (0, 0, 1, math.nan), 64)),
    *(("canvas_size", value) for value in ((-1, 64), (64, 10**30), 64)),
    *(("original_size", value) for value in ((-1, 64), (64, 10**30), (64,), 64)),
    *(("crops_coords_top_left", value) for value in ((-1, 0), (0, math.nan))),
    *(("target_size", value) for value in ((-1, 64), (64, 10**30))),
    *(("negative_original_size", value) for value in ((-1, 64), (64, 10**30))),
    *(("negative_crops_coords_top_left", value) for value in ((-1, 64), (64, 10**30))),
    *(("negative_target_size", value) for value in ((-1, 64), (64, 10**30))),
    *(("aesthetic_score", value) for value in (-1, 101, math.nan, "nan", math.inf)),
    *(("negative_aesthetic_score", value) for value in (-1, 101, math.nan)),
    *(("batch_size", value) for value in (0, -1, 1025)),
]


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_value_out_of_range(refused: Refused, field: str, value: object) -> None:
    message = refused(RequestError, field, **{field: value})
    wrong = (
        next((part for part in value if part in (-1, 10**30) or part != part), value)
        if isinstance(value, tuple)
        else value
    )
    assert repr(wrong)[:20] in message or str(wrong)[:20] in message


def test_every_number_is_tried() -> None:
    """A field that is added later must be added to the list above."""
    fields = GenerateRequest.model_json_schema()["properties"]
    numbers = {
        name for name, field in fields.items() if '"number"' in json.dumps(field) or '"integer"' in json.dumps(field)
    }
    assert numbers - {"seeds", "timesteps", "sigmas"} == {field for field, _ in OUT_OF_RANGE}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seeds": [1, 2]}, ["seed and seeds", "keep one"]),
        ({"seed": None, "seeds": []}, ["seeds", "at least 1"]),
        ({"seed": None, "seeds": [1, -2]}, ["seeds.1", "-2"]),
        ({"seed": None, "seeds": [1, 2], "count": 3}, ["count is 3", "2 seeds"]),
        ({"seed": 2**63 - 1, "count": 2}, ["2**63", "smaller seed"]),
        ({"strength": 0.5}, ["strength", "no image"]),
        ({"denoising_start": 0.5}, ["denoising_start needs an image"]),
        ({"image": PICTURE, "strength": 0.5, "denoising_start": 0.5}, ["strength and denoising_start", "keep one"]),
        ({"image": PICTURE, "denoising_start": 0.5, "denoising_end": 0.5}, ["denoising_end 0.5 must be above"]),
        ({"image": PICTURE, "denoising_start": 0.5, "denoising_end": 0.4}, ["denoising_end 0.4 must be above"]),
        ({"steps": None, "timesteps": [9, 5], "sigmas": [9.0, 5.0]}, ["timesteps and sigmas", "keep one"]),
        ({"steps": 3, "timesteps": [900, 500]}, ["steps is 3", "2 timesteps"]),
        ({"steps": 1, "sigmas": [9.0, 5.0]}, ["steps is 1", "2 sigmas"]),
        ({"steps": None, "timesteps": []}, ["timesteps", "at least 1"]),
        ({"steps": None, "timesteps": [500, 500]}, ["timesteps must fall", "500 follows 500"]),
        ({"steps": None, "timesteps": [500, 900]}, ["timesteps must fall", "900 follows 500 at position 1"]),
        ({"steps": None, "timesteps": [500, -1]}, ["timesteps.1", "-1"]),
        ({"steps": None, "timesteps": [1000, 1], "scheduler": "euler"}, ["timesteps begin at 1000", "0 to 999"]),
        ({"steps": None, "sigmas": [5.0, 9.0]}, ["sigmas must fall"]),
        ({"steps": None, "sigmas": [0.0]}, ["sigmas", "only the last"]),
        ({"steps": None, "sigmas": [5.0, 0.0, 0.0]}, ["sigmas", "only the last"]),
        ({"steps": None, "sigmas": [5.0, -0.1]}, ["sigmas.1", "-0.1"]),
        ({"steps": None, "sigmas": [math.nan]}, ["sigmas.0", "finite"]),
        ({"steps": None, "sigmas": [1e30]}, ["sigmas.0", "1e+30"]),
        ({"steps": None, "sigmas": [5.0, 2.0], "scheduler": "ddim"}, ["no custom sigmas", "euler"]),
        ({"steps": None, "timesteps": [500, 2], "scheduler": "ddim"}, ["no custom timesteps"]),
        ({"eta": 0.5, "scheduler": "euler"}, ["eta is 0.5", "ddim"]),
        ({"steps": 1001, "scheduler": "ddim"}, ["1001 steps"]),
        ({"clip_skip": 3}, ["clip_skip is 3", "3 layers", "at most 2"]),
        ({"denoising_end": 0.01}, ["steps=1", "no step", "denoising_end 0.01", "more steps"]),
        ({"output": "video"}, ["output", "'image' or 'latent'", "video"]),
        ({"long_prompt": "fold"}, ["long_prompt", "'chunk' or 'cut'"]),
        ({"scheduler": 5}, ["scheduler", "string"]),
        ({"prompt": 5}, ["prompt", "string", "5"]),
        ({"prompt": None, "negative_prompt": ["bad"]}, ["prompt"]),
    ],
)
def test_contradictions(refused: Refused, fields: dict[str, Any], words: list[str]) -> None:
    refused(RequestError, *words, **fields)


def test_all_that_is_wrong_is_said_at_once(refused: Refused) -> None:
    refused(RequestError, "steps:", "count:", "eta:", steps=0, count=0, eta=2)


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [("height", 18, "16 or 20"), ("width", 63, "60 or 64"), ("width", 513, "512 or 516"), ("height", 9, "8 or 12")],
)
def test_size_that_the_codec_cannot_make(refused: Refused, field: str, value: int, near: str) -> None:
    refused(RequestError, f"{field} {value}", "multiple of 4", near, **{field: value})


def test_huge_size(refused: Refused, engine: Engine) -> None:
    refused(
        RequestError,
        "16384x16384",
        "268,435,456 pixels",
        f"{engine.max_pixels:,}",
        "max_pixels",
        height=16_384,
        width=16_384,
    )


def test_tiny_sizes_work(engine: Engine, unharmed: Callable[[], None]) -> None:
    for height, width in ((8, 8), (8, 64), (12, 8)):
        assert engine.generate("a", seed=1, steps=1, height=height, width=width).image.size == (width, height)
    unharmed()


@pytest.mark.parametrize("limit", [0, -1, 1.5, "many", None])
def test_max_pixels_itself(engine: Engine, limit: Any) -> None:
    with pytest.raises(RequestError, match="max_pixels is"):
        Engine(engine.model, plugins=(), max_pixels=limit)


@pytest.mark.parametrize("request_", [5, 2.5, [1], b"\xff", {"steps": 0}, {1: 2}, {"stepz": 1}])
def test_what_is_no_request(engine: Engine, request_: Any, unharmed: Callable[[], None]) -> None:
    for ask in (engine.generate, engine.explain, engine.stream, engine.to_json):
        with pytest.raises(RequestError):
            ask(request_)
    unharmed()


def test_explain_refuses_what_generate_refuses(engine: Engine) -> None:
    for fields in (
        {"scheduler": "eular"},
        {"clip_skip": 9},
        {"height": 18},
        {"use": "dail"},
        {"eta": 1, "scheduler": "euler"},
    ):
        with pytest.raises((RequestError, PluginLoadError)):
            engine.explain("a", **fields)


@pytest.mark.parametrize(
    "fields", [{"s" * 10**6: 1}, {"scheduler": "e" * 10**6}, {"use": "x" * 10**6}, {"use": "x:" * 10**6}]
)
def test_a_message_is_not_as_long_as_what_is_wrong(refused: Refused, fields: dict[str, Any]) -> None:
    refused(RequestError, **fields)


def test_an_observer_that_is_none(engine: Engine) -> None:
    with pytest.raises(RequestError, match="on_event is a int; give a function"):
        engine.generate("a", on_event=5)  # type: ignore[arg-type]


def test_the_prompt_twice() -> None:
    with pytest.raises(RequestError, match="given twice"):
        GenerateRequest("a", prompt="b")
