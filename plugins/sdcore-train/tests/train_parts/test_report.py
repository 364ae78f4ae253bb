"""The report is one page that is whole, harmless and shows what it is given."""

import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from sdcore_train.config import TrainConfig
from sdcore_train.monitor.report import DataFacts, Made, Report, write_report

from sdcore import OutputError

NASTY = '<script>alert("x")</script> & \'"><img src=x onerror=y>'
VOID = {"meta", "img", "br", "!doctype"}


class Page(HTMLParser):
    """Reads a page, and fails where tags are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def of(self, tag: str, name: str) -> list[str]:
        return [value for found, values in self.tags if found == tag and (value := values.get(name))]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def picture(path: Path, large: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3) if large else (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_everything_is_escaped(tmp_path):
    folder = tmp_path / "out"
    shown = picture(folder / 'a "b" <c> #d.png', large=True)
    report = Report(
        NASTY,
        summary=NASTY,
        figures=[(NASTY, NASTY)],
        config={NASTY: NASTY, "list": [NASTY], "nested": [{"a": NASTY}]},
        defaults={NASTY: "other"},
        data=DataFacts([(NASTY, NASTY)], {(8, 8): 1}, [(NASTY, NASTY)]),
        curve=shown,
        samples=[(NASTY, shown)],
        made=[Made(folder / NASTY.replace("/", "_"), NASTY, NASTY)],
        memory=[(NASTY, NASTY, NASTY)],
        notes=[NASTY],
    )
    page = Page(write_report(folder, report))
    assert not page.of("script", "src")
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [values for _, values in page.tags if "onerror" in values]
    assert page.text.count(NASTY) >= 14
    assert [unquote(link) for link in page.of("img", "src")] == [shown.name] * 2


def test_pictures_are_found_when_the_folder_is_moved(tmp_path):
    folder = tmp_path / "out"
    large = picture(folder / "samples" / "step one.png", large=True)
    small = picture(folder / "loss.png", large=False)
    outside = picture(tmp_path / "elsewhere.png", large=True)
    (folder / "lora.safetensors").write_bytes(b"x")
    report = Report(
        "t",
        curve=small,
        progress=folder / "missing.png",
        samples=[("one", outside), ("two", large)],
        made=[Made(folder / "lora.safetensors", "LoRA", "sdcore generate x\n")],
    )
    write_report(folder, report)
    moved = shutil.move(folder, tmp_path / "moved")
    outside.unlink()
    page = Page(Path(moved) / "report.html")
    sources = page.of("img", "src")
    assert [source.startswith("data:image/png;base64,") for source in sources] == [True, False, True]
    links = [unquote(link) for link in (*page.of("a", "href"), *sources) if not link.startswith("data:")]
    assert sorted(set(links)) == ["lora.safetensors", "samples/step one.png"]
    assert all((Path(moved) / link).is_file() for link in links)
    assert "sdcore generate x" in page.text


def test_only_settings_that_differ_are_shown_unfolded(tmp_path):
    config = TrainConfig(steps=7, data={"path": "icons"}, optimizer={"learning_rate": 0.25})
    report = Report("t", config=config.model_dump(mode="json"), defaults=TrainConfig().model_dump(mode="json"))
    write_report(tmp_path, report)
    html = (tmp_path / "report.html").read_text()
    before, folded = html.split("<details>")
    for name in ("steps", "data", "optimizer.learning_rate"):
        assert f"<th>{name}</th>" in before
        assert f"<th>{name}</th>" in folded
    assert "path icons" in before
    assert "<th>seed</th>" not in before
    assert "<th>optimizer.weight_decay</th>" in folded
    plain = Page(write_report(tmp_path, Report("t", config={"a": {"b": None}})))
    assert "a.b none" in plain.text
    assert "details" not in {tag for tag, _ in plain.tags}


def test_empty_parts_are_left_out(tmp_path):
    page = Page(write_report(tmp_path / "new", Report("Only a title")))
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2", "table", "img")] == ["h1"]


def test_many_skipped_pictures_are_counted_and_the_first_listed(tmp_path):
    skipped = [(f"{number}.png", "broken") for number in range(250)]
    page = Page(write_report(tmp_path, Report("t", data=DataFacts(skipped=skipped))))
    assert "250 left out" in page.text
    assert "and 150 more" in page.text
    assert " 99.png " in page.text
    assert " 100.png " not in page.text


def test_a_failed_report_leaves_the_old_one(tmp_path):
    write_report(tmp_path, Report("old"))
    with pytest.raises(AttributeError):
        write_report(tmp_path, Report("new", made=[None]))
    assert "old" in (tmp_path / "report.html").read_text()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_report(tmp_path / "file", Report("t"))
