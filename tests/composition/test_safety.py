"""Safety with LoRA, ControlNet, inpainting and a watermark, on every family; and as the policy of an application."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sdcore_controlnet import ControlNetPlugin
from sdcore_inpaint import InpaintPlugin
from sdcore_lora import LoRAPlugin
from sdcore_safety import ImageCheck, Safety, SafetyPlugin
from sdcore_watermark import Key, Watermark, WatermarkPlugin

from sdcore import Engine, Options, Plugin, RequestError, Run, Use, Withheld, hookimpl, ports
from sdcore.events import Event, Finished, Stepped
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_control import tiny_controlnet

from .matrix import FAMILIES, PROMPT, SEED, lora_file

SIZE = 64
"""The least that a watermark goes into."""
FIELDS: dict[str, Any] = {"prompt": PROMPT, "seed": SEED, "steps": 2, "height": SIZE, "width": SIZE}
FEATURES = ("lora", "controlnet", "inpaint")


class Seen:
    """What the check ``judge`` was shown, and what it says."""

    pictures: list[Image.Image]
    score = 0.0


class Judge(ImageCheck):
    name, version, categories = "judge", "1", ("violence",)

    def score(self, image: Image.Image) -> Mapping[str, float]:
        Seen.pictures.append(image.copy())
        return {"violence": Seen.score}


class Second(Options):
    """Draw once more, with another prompt."""

    prompt: str


class Company(Plugin):
    """Brings the check, and a second pass with a prompt of its own."""

    name = "company"
    options = Second

    @hookimpl
    def register(self, registry: Any) -> None:
        registry.add("safety_check", "judge", Judge)

    @hookimpl
    def whole_run(self, run: Run) -> Any:
        (second,) = run.uses(Second)

        def twice(request: Any, call_next: Any) -> Any:
            call_next(request)
            return call_next(request.replace(prompt=second.prompt))

        return ports.whole_run(twice)


PLUGINS = [SafetyPlugin, WatermarkPlugin, LoRAPlugin, ControlNetPlugin, InpaintPlugin, Company]
WATCH = Safety(checks=("blocklist", "judge"), early=None)


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seen, "pictures", [], raising=False)
    monkeypatch.setattr(Seen, "score", 0.0)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.json"
    Key.generate().save(path)
    return path


@functools.cache
def engine(family: str) -> Engine:
    return Engine.load(tiny_folder(family), plugins=PLUGINS, device="cpu")


def picture() -> Image.Image:
    return Image.radial_gradient("L").resize((SIZE, SIZE)).convert("RGB")


def mask() -> Image.Image:
    made = Image.new("L", (SIZE, SIZE))
    made.paste(255, (SIZE // 2, 0, SIZE, SIZE))
    return made


def request(family: str, feature: str) -> dict[str, Any]:
    """A request with one feature."""
    if feature == "lora":
        return {**FIELDS, "use": [Use(plugin="lora", options={"path": str(lora_file(family, 1))})]}
    if feature == "controlnet":
        net = {"model": str(tiny_controlnet(family, seed=1)), "image": picture()}
        return {**FIELDS, "use": [Use(plugin="controlnet", options=net)]}
    fields = {name: value for name, value in FIELDS.items() if name not in ("height", "width")}
    use = [Use(plugin="inpaint", options={"mask": mask()})]
    return {**fields, "image": picture(), "strength": 0.7, "use": use}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_safety_judges_what_is_drawn_and_the_watermark_comes_after(family: str, feature: str, key: Path) -> None:
    asked = request(family, feature)
    plain = engine(family).generate(**asked)
    mark = Watermark(key=str(key), unmarkable="allow")
    result = engine(family).generate(**{**asked, "use": [mark, *asked["use"], WATCH]})
    assert torch.equal(result.latents, plain.latents)  # neither of them changes what is drawn
    assert [seen.tobytes() for seen in Seen.pictures] == [plain.image.tobytes()]  # without the mark
    assert result.image.tobytes() != plain.image.tobytes()  # with it
    assert result.reports[0]["watermark"]["psnr"] > 30
    assert result.reports[0]["safety"]["report"]["outcome"] == "allow"


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_withheld_is_neither_marked_nor_returned(
    family: str, feature: str, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[Any] = []
    monkeypatch.setattr("sdcore_watermark.plugin._mark", lambda *given: marked.append(given))
    Seen.score = 0.9
    asked = request(family, feature)
    with pytest.raises(Withheld, match="violence in the image"):
        engine(family).generate(**{**asked, "use": [Watermark(key=str(key)), *asked["use"], WATCH]})
    assert marked == []


@pytest.mark.parametrize("family", FAMILIES)
def test_explain_shows_safety_before_the_watermark_before_the_metadata(family: str, key: Path) -> None:
    asked = request(family, "inpaint")
    blur = WATCH.model_copy(update={"action": "blur"})
    rows = engine(family).explain(**{**asked, "use": [Watermark(key=str(key)), *asked["use"], blur]}).rows()
    shown = [(row.plugin, row.port, row.phase) for row in rows]
    places = [
        shown.index(("inpaint", "whole_run.whole_run", "canvas")),  # where the kept half is put back
        shown.index(("safety", "decode.image", "safety")),
        shown.index(("watermark", "decode.image", "watermark")),
        min(place for place, row in enumerate(shown) if row[1] == "output.metadata"),
    ]
    assert places == sorted(places)


def test_inpainting_is_judged_with_the_kept_half_in_it() -> None:
    """What leaves is the composite: a check sees the given picture where the mask is black."""
    engine("sd1").generate(**{**(asked := request("sd1", "inpaint")), "use": [*asked["use"], WATCH]})
    kept = (0, 0, SIZE // 2 - 8, SIZE)
    assert Seen.pictures[0].crop(kept).tobytes() == picture().crop(kept).tobytes()


def test_the_blurred_picture_is_what_is_marked(key: Path) -> None:
    Seen.score = 0.9
    blur = WATCH.model_copy(update={"action": "blur"})
    result = engine("sd1").generate(**FIELDS, use=[Watermark(key=str(key), unmarkable="allow"), blur])
    assert result.reports[0]["safety"]["report"]["outcome"] == "blur"
    sharp, left = (image.resize((8, 8)).resize((SIZE, SIZE)) for image in (Seen.pictures[0], result.image))
    assert left.tobytes() != sharp.tobytes()
    assert result.reports[0]["watermark"]["scheme"] == "spread"
    assert result.latents.isnan().all()  # the sharp picture does not leave by another door


# -- an application sets the policy ---------------------------------------------------------------------------


@functools.cache
def application() -> Engine:
    policy = [Safety(checks=("blocklist", "judge")), Watermark(unmarkable="allow")]
    return Engine.load(tiny_folder("sd1"), plugins=PLUGINS, device="cpu", always=policy)


@pytest.mark.parametrize(
    "use",
    [
        [Safety(checks=(), action="flag")],
        [Use(plugin="safety", options={"thresholds": {"violence": None}})],
        ["safety:on_error=allow,override_reason=x"],
        [Watermark(psnr=50)],
    ],
    ids=["options", "name", "text", "watermark"],
)
def test_a_request_cannot_bring_its_own(use: list[Any]) -> None:
    with pytest.raises(RequestError, match="set by the application"):
        application().generate(**FIELDS, use=use)


@pytest.mark.parametrize("feature", FEATURES)
def test_nothing_leaves_by_any_way(feature: str) -> None:
    """Not as a result, not from a stream, not as a sharp preview, not as latents."""
    Seen.score = 0.9
    asked = {**request("sd1", feature), "scheduler": "ddim", "steps": 4}
    with pytest.raises(Withheld):
        application().generate(**asked)
    events: list[Event] = []
    previews: list[Image.Image] = []
    stream = application().stream(**asked)

    def follow() -> None:
        for event in stream:
            events.append(event)
            if isinstance(event, Stepped):
                previews.extend(event.preview())

    with pytest.raises(Withheld):
        follow()
    assert not any(isinstance(event, Finished) for event in events)
    assert previews == []  # the watermark's policy: none that is not marked
    with pytest.raises(Withheld):
        stream.result()
    with pytest.raises(RequestError, match="would leave without a watermark"):
        application().generate(**{**asked, "output": "latent"})
    without_mark = Engine(application().model, plugins=PLUGINS, always=[WATCH])
    with pytest.raises(RequestError, match="has safety look at every picture that leaves"):
        without_mark.generate(**{**asked, "output": "latent"})


def test_previews_of_a_policy_are_fields_of_colour_until_judged() -> None:
    """Without a watermark in the policy, previews leave: coarse ones, and none of what has tripped."""
    Seen.score = 0.9
    engine = Engine.load(tiny_folder("sd1"), plugins=PLUGINS, device="cpu", always=[Safety(checks=("judge",))])
    previews: list[Image.Image] = []
    with pytest.raises(Withheld):
        engine.generate(
            **{**FIELDS, "steps": 6, "scheduler": "ddim"},
            on_event=lambda event: previews.extend(event.preview()) if isinstance(event, Stepped) else None,
        )
    coarse = Safety(checks=("judge",), early=None)
    Seen.score = 0.0
    wanted: list[Image.Image] = []
    application_free = Engine.load(tiny_folder("sd1"), plugins=PLUGINS, device="cpu")
    application_free.generate(
        **{**FIELDS, "steps": 6, "scheduler": "ddim"}, use=[coarse],
        on_event=lambda event: wanted.extend(event.preview()) if isinstance(event, Stepped) else None,
    )  # fmt: skip
    assert [image.tobytes() for image in previews] == [image.tobytes() for image in wanted[: len(previews)]]
    assert len(previews) == 2


def test_a_second_pass_is_judged_by_its_own_prompt() -> None:
    """A plugin that draws another prompt than the request's does not get round the block list."""
    drawn = engine("sd1").generate(**FIELDS, use=[Second(prompt="a blue dog"), WATCH])
    assert drawn.pictures
    with pytest.raises(Withheld, match="sexual in the prompt"):
        engine("sd1").generate(**FIELDS, use=[Second(prompt="a n4ked man"), WATCH])
