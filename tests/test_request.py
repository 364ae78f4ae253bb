"""GenerateRequest: one thing for Python, the command line, JSON and the record."""

from __future__ import annotations

import base64
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import Field

from sdcore import GenerateRequest, Options, RequestError, Use
from sdcore.images import load_image
from sdcore.request import ALIASES, parse_use


class Glow(Options):
    strength: float = Field(default=0.5, ge=0, le=1)
    colours: tuple[str, ...] = ()


FULL = GenerateRequest(
    'a red apple, \N{RED APPLE} "quoted" \\ \n',
    negative_prompt="",
    seeds=(1, 2**63 - 1),
    scheduler="euler-a",
    guidance_scale=7.25,
    guidance_rescale=0.7,
    height=64,
    width=72,
    image="in.png",
    strength=0.3,
    clip_skip=1,
    eta=0.1,
    timesteps=(900, 500, 1),
    denoising_end=0.8,
    original_size=(1024, 1000),
    crops_coords_top_left=(1, 2),
    aesthetic_score=6.5,
    long_prompt="cut",
    batch_size=2,
    output="latent",
    use=[Use(plugin="glow", options={"strength": 0.25, "colours": ["red", "\u7ea2"]}), "switch"],
)


# -- fields ---------------------------------------------------------------------------------------------


def test_the_prompt_comes_first() -> None:
    assert GenerateRequest("a cat", steps=3) == GenerateRequest(prompt="a cat", steps=3)
    assert GenerateRequest().prompt == ""


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias: str, name: str) -> None:
    value: Any = {"image": "a.png", "scheduler": "ddim", "output": "latent"}.get(name, 1)
    extra: dict[str, Any] = {"image": "a.png"} if name == "strength" else {}
    assert GenerateRequest("a", **{alias: value}, **extra) == GenerateRequest("a", **{name: value}, **extra)
    assert GenerateRequest("a").replace(**{alias: value}, **extra) == GenerateRequest("a", **{name: value}, **extra)


def test_it_cannot_be_changed() -> None:
    request = GenerateRequest("a", use=["glow"])
    with pytest.raises(Exception, match="frozen"):
        request.steps = 3  # type: ignore[misc]
    assert isinstance(request.use, tuple)


def test_numbers_of_other_libraries() -> None:
    request = GenerateRequest("a", seed=torch.tensor(7).item(), steps="12", guidance_scale="7.5", width=64.0)
    assert (request.seed, request.steps, request.guidance_scale, request.width) == (7, 12, 7.5, 64)


def test_the_final_zero_of_a_schedule() -> None:
    assert GenerateRequest(sigmas=(9.0, 1.5, 0)).sigmas == GenerateRequest(sigmas=[9, 1.5]).sigmas == (9.0, 1.5)
    assert GenerateRequest(sigmas=(9.0, 1.5, 0), steps=2).steps == 2


def test_every_field_is_described() -> None:
    assert [name for name, field in GenerateRequest.model_fields.items() if not field.description] == []
    assert GenerateRequest.model_json_schema()["additionalProperties"] is False


def test_an_error_is_a_sentence_for_each_field() -> None:
    with pytest.raises(RequestError) as caught:
        GenerateRequest("x" * 300_000, steps=-5, sigmas=(3.0, math.nan))
    text = str(caught.value)
    assert "steps: Input should be greater than or equal to 1, got -5" in text
    assert "sigmas.1: Input should be a finite number, got nan" in text
    assert "xxx..." in text
    assert len(text) < 500
    assert "pydantic" not in text


# -- replace --------------------------------------------------------------------------------------------


def test_replace_gives_a_changed_copy() -> None:
    request = GenerateRequest("a", steps=3)
    assert request.replace(steps=4, prompt="b") == GenerateRequest("b", steps=4)
    assert request == GenerateRequest("a", steps=3)
    assert request.replace() == request
    with pytest.raises(RequestError, match="no field 'stepz'"):
        request.replace(stepz=4)
    with pytest.raises(RequestError, match="'steps' is given twice"):
        request.replace(steps=4, num_inference_steps=5)
    with pytest.raises(RequestError, match="steps"):
        request.replace(steps=0)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({"seeds": (1, 2)}, {"seed": 5}, {"seed": 5}),
        ({"seeds": (1, 2), "count": 2}, {"seed": 5}, {"seed": 5, "count": 2}),
        ({"seeds": (1, 2)}, {"seed": None}, {"seed": None}),
        ({"seed": 1, "count": 3}, {"seeds": (4, 5)}, {"seeds": (4, 5)}),
        ({"steps": 2}, {"timesteps": (9, 5, 1)}, {"timesteps": (9, 5, 1)}),
        ({"timesteps": (9, 5), "steps": 2}, {"sigmas": (9.0, 5.0, 1.0)}, {"sigmas": (9.0, 5.0, 1.0)}),
        ({"sigmas": (9.0, 5.0)}, {"num_inference_steps": 7}, {"steps": 7}),
        ({"image": "a.png", "strength": 0.5}, {"image": None}, {"image": None}),
        ({"image": "a.png", "strength": 0.5}, {"denoising_start": 0.5}, {"image": "a.png", "denoising_start": 0.5}),
        ({"image": "a.png", "denoising_start": 0.5}, {"strength": 0.5}, {"image": "a.png", "strength": 0.5}),
    ],
)
def test_what_says_the_same_gives_way(before: dict[str, Any], change: dict[str, Any], after: dict[str, Any]) -> None:
    assert GenerateRequest("a", **before).replace(**change) == GenerateRequest("a", **after)


def test_what_contradicts_in_one_call_does_not() -> None:
    with pytest.raises(RequestError, match="seed and seeds"):
        GenerateRequest("a").replace(seed=1, seeds=(1, 2))


# -- use ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plugin", "options"),
    [
        ("glow", "glow", {}),
        ("glow:", "glow", {}),
        (" glow :strength=0.5", "glow", {"strength": 0.5}),
        ("lora:path=style.safetensors,weight=0.8", "lora", {"path": "style.safetensors", "weight": 0.8}),
        ("lora:path=C:\\x=1.safetensors", "lora", {"path": "C:\\x=1.safetensors"}),
        ('a:x="1,2",y=[1,[2,3]],z={"k": [1, 2]}', "a", {"x": "1,2", "y": [1, [2, 3]], "z": {"k": [1, 2]}}),
        ("a:on=true,off=false,none=null,text=yes", "a", {"on": True, "off": False, "none": None, "text": "yes"}),
        ("a:x=1girl.png,y=3]b,z=[half,w={", "a", {"x": "1girl.png", "y": "3]b", "z": "[half", "w": "{"}),
        ("a:x=,y= 1", "a", {"x": "", "y": " 1"}),
        ("a:x=1 , y=2,", "a", {"x": 1, "y": 2}),
        ("a:x=" + "[" * 100_000, "a", {"x": "[" * 100_000}),
    ],
)
def test_a_line_of_text(text: str, plugin: str, options: dict[str, Any]) -> None:
    assert parse_use(text) == Use(plugin=plugin, options=options)
    assert GenerateRequest(use=text).use == (Use(plugin=plugin, options=options),)


@pytest.mark.parametrize("text", ["", " ", ":x=1", "a:x", "a:=1", "a:x=1,y", "a:,x=1", "a:x=1,x=2"])
def test_a_wrong_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"name:option=value|given twice"):
        parse_use(text)


def test_one_or_several_in_every_form() -> None:
    as_use = Use(plugin="glow", options={"strength": 1})
    one = {"plugin": "glow", "options": {"strength": 1}}
    assert GenerateRequest(use=[as_use, one, "glow:strength=1"]).use == (as_use,) * 3
    assert GenerateRequest(use=as_use).use == GenerateRequest(use=one).use == (as_use,)
    assert GenerateRequest(use=Glow()).use == (Glow(),)


# -- JSON -----------------------------------------------------------------------------------------------


def test_round_trip() -> None:
    text = FULL.to_json()
    assert "\n" not in text
    assert GenerateRequest.from_json(text) == FULL
    assert GenerateRequest.from_json(text.encode()) == FULL
    assert GenerateRequest.from_json(text).to_json() == text
    assert GenerateRequest(**json.loads(text)) == FULL
    assert GenerateRequest.from_json(json.dumps(FULL.to_dict())) == FULL


def test_only_what_is_not_at_its_default() -> None:
    assert GenerateRequest().to_json() == "{}"
    assert GenerateRequest("a", seed=1, count=1, eta=0.0).to_dict() == {"prompt": "a", "seed": 1}


def test_every_field_survives() -> None:
    """A field that is added later must be added here."""
    other = {"seed": 3, "count": 2, "steps": 4, "sigmas": (9.0, 1.5), "denoising_start": 0.25}
    sizes = {name: (3, 4) for name in GenerateRequest.model_fields if "size" in name and name != "batch_size"}
    other |= sizes | {"negative_crops_coords_top_left": (3, 4), "negative_aesthetic_score": 1.5}
    other |= {"window": (0, 0.5, 1, 1)}
    given = set(FULL.to_dict())
    for name, value in other.items():
        extra: dict[str, Any] = {"image": "a.png"} if name == "denoising_start" else {}
        request = GenerateRequest("a", **{name: value}, **extra)
        assert GenerateRequest.from_json(request.to_json()) == request
        given.add(name)
    assert given == set(GenerateRequest.model_fields)


def test_options_objects_need_their_plugins_name() -> None:
    request = GenerateRequest("a", use=[Glow(strength=0.25, colours=("red",)), "switch"])
    with pytest.raises(RequestError, match=r"which plugin Glow belongs to.*engine\.to_json"):
        request.to_json()
    text = request.to_json(lambda options: type(options).__name__.lower())
    assert GenerateRequest.from_json(text).use == (
        Use(plugin="glow", options={"strength": 0.25, "colours": ["red"]}),
        Use(plugin="switch"),
    )


def test_options_that_are_no_json() -> None:
    with pytest.raises(RequestError, match="options of plugin 'glow'"):
        GenerateRequest("a", use=[Use(plugin="glow", options={"x": object()})]).to_json()
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        GenerateRequest("a", use=[Use(plugin="glow", options={"x": math.nan})]).to_json()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_a_picture_in_memory_becomes_a_data_uri(mode: str) -> None:
    picture = Image.linear_gradient("L").resize((9, 8)).convert("L" if mode == "I;16" else mode)
    picture = picture.convert(mode) if mode == "I;16" else picture
    read = GenerateRequest.from_json(GenerateRequest("a", image=picture).to_json())
    assert read.image.startswith("data:image/png;base64,")
    assert load_image(read.image, keep_alpha=True).tobytes() == load_image(picture, keep_alpha=True).tobytes()


def test_other_pictures() -> None:
    written = io.BytesIO()
    Image.new("RGB", (9, 8), "red").save(written, "JPEG")
    read = GenerateRequest.from_json(GenerateRequest("a", image=written.getvalue()).to_json())
    assert load_image(read.image).tobytes() == load_image(written.getvalue()).tobytes()
    uri = "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
    assert GenerateRequest("a", image=uri).to_dict()["image"] == uri
    assert GenerateRequest("a", image=Path("b") / "a.png").to_dict()["image"] == str(Path("b") / "a.png")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(1, 4, 8, 8), r"latents \(1, 4, 8, 8\)"),
        (Image.new("CMYK", (9, 8)), "convert it to RGB"),
        (5, "a int cannot"),
    ],
)
def test_what_json_cannot_hold(image: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        GenerateRequest("a", image=image).to_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("[]", "object in braces, got list"),
        ('"a red apple"', "object in braces, got str"),
        ('{"eta": NaN}', "NaN is no JSON value"),
        ('{"guidance_scale": Infinity}', "Infinity is no JSON value"),
        ('{"guidance_scale": 1e999}', "finite"),
        ('{"seed": 1, "seed": 2}', "'seed' occurs twice"),
        ('{"use": [{"plugin": "a", "options": {"x": 1, "x": 2}}]}', "'x' occurs twice"),
        ('{"stepz": 1}', "no field 'stepz'"),
        ('{"steps": true}', "steps is True"),
        ('{"steps": null, "eta": null}', "eta"),
        ('{"prompt": "\\ud83c"}', "surrogate"),
        ('{"prompt": null}', "prompt"),
    ],
)
def test_text_that_is_no_request(text: str | bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        GenerateRequest.from_json(text)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from sdcore import GenerateRequest as R; "
        "R.from_json(R('a', use='lora:weight=1').to_json()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_picture_in_options_becomes_a_data_uri_and_comes_back() -> None:
    picture = Image.linear_gradient("L").resize((16, 12)).convert("RGB")
    request = GenerateRequest("a", use=[Use(plugin="glow", options={"mask": picture})])
    (use,) = GenerateRequest.from_json(request.to_json()).use
    assert load_image(use.options["mask"]).tobytes() == picture.tobytes()
