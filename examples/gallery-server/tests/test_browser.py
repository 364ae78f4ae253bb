"""The page in a browser: from the key to a replayed picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdcore.testing.tiny import tiny_folder

CONFIG = """
model = "{model}"
[policies.standard]
plugins = ["template", "inpaint"]
always = [{{ plugin = "watermark", options = {{ previews = "allow", unmarkable = "allow" }} }}]
"""
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.mark.slow
def test_a_person_draws_looks_and_replays(process: Callable[[str], Any], page: Any, tmp_path: Path) -> None:
    server = process(CONFIG.format(model=Path(tiny_folder("sd1")).as_posix()))
    (key,) = server.keys("a person")
    server.start()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Security Policy" in message.text else None)
    page.on("dialog", lambda dialog: dialog.accept())

    page.goto(server.address)
    page.fill("#key", "gs_wrong")
    page.press("#key", "Enter")
    page.get_by_text("this is no API key of this server").wait_for()
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.get_by_text("Always on, by this server's policy: watermark.").wait_for()

    page.click("#draw")
    page.get_by_text("Say in the prompt what to draw.").wait_for()
    page.fill("#prompt", HOSTILE)
    page.fill("#seed", "7")
    page.fill("#steps", "12")
    page.click("summary:has-text('More settings')")
    page.fill("#width", "64")
    page.fill("#height", "64")
    page.check("[data-plugin=template]")
    options = page.locator(".plugin.on")
    options.get_by_label("warmth").fill("2")
    page.click("#draw")
    page.locator("#compose-error", has_text="warmth").wait_for()
    options.get_by_label("warmth").fill("0.9")
    page.click("#draw")
    page.wait_for_selector(".job .frame img:not([hidden])")  # a preview
    page.wait_for_selector(".job[data-state=done]")

    page.click("#gallery button")
    page.wait_for_selector("#viewer[open]")
    assert page.inner_text("#viewer-title") == HOSTILE
    assert "template, watermark" in page.inner_text("#viewer-facts")
    page.click("#viewer-again")
    page.locator("#viewer-replay.good", has_text="Identical").wait_for()
    page.click("#viewer summary")
    assert '"warmth": 0.9' in page.inner_text("#viewer-record")
    page.click("#viewer-reuse")
    assert options.get_by_label("warmth").input_value() == "0.9"

    # A picture and a mask are uploaded; options of another plugin.
    page.uncheck("[data-plugin=template]")
    page.fill("#width", "")
    page.fill("#height", "")
    for name, colour in (("photo", "red"), ("mask", "white")):
        picture = Image.new("RGB", (64, 64))
        picture.paste(colour, (0, 0, 32, 64))
        picture.save(tmp_path / f"{name}.png")
    page.set_input_files("#image-file", tmp_path / "photo.png")
    page.get_by_text("photo.png is uploaded.").wait_for()
    page.check("[data-plugin=inpaint]")
    page.locator(".plugin.on input[type=file]").first.set_input_files(tmp_path / "mask.png")
    page.get_by_text("mask.png is uploaded.").wait_for()
    page.click("#draw")
    page.wait_for_selector(".job[data-state=done] >> nth=1")

    page.fill("#steps", "50")
    page.fill("#count", "4")
    page.click("#draw")
    page.click(".job:not([data-state=done]) button:has-text('Cancel')")
    page.wait_for_selector(".job[data-state=cancelled]")

    page.reload()
    page.wait_for_selector("#gallery li >> nth=1")
    page.click("#gallery button")
    page.click("#viewer-delete")
    page.wait_for_selector("#gallery li >> nth=1", state="detached")
    page.click("#leave")
    page.wait_for_selector("#login:not([hidden])")
    assert page.title() == "Gallery"
    assert not problems


@pytest.mark.slow
def test_the_page_is_usable_without_a_mouse(process: Callable[[str], Any], page: Any) -> None:
    server = process(CONFIG.format(model=Path(tiny_folder("sd1")).as_posix()))
    (key,) = server.keys("a person")
    server.start()
    page.goto(server.address)
    page.wait_for_selector("#key:focus")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#compose")
    page.focus("#prompt")
    page.keyboard.type("a red apple")
    page.keyboard.press("Enter")
    ended = page.wait_for_selector(".job:is([data-state=done], [data-state=failed], [data-state=withheld])")
    assert ended.get_attribute("data-state") == "done", ended.inner_text()
    unnamed = (
        page.locator("#studio")
        .locator("input, select, textarea, button, progress")
        .evaluate_all(
            "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent.trim() "
            "&& !one.querySelector('img[alt]')).map(one => one.outerHTML)"
        )
    )
    assert unnamed == []
    page.focus("#gallery button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer:not([open])", state="attached")
