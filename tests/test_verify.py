"""``sdcore.verify`` and ``sdcore verify``: the record's verifier, others' verifiers, hostile pictures, the page."""

from __future__ import annotations

import html
import io
import json
import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdcore import Engine, ImageError, Options, Plugin, PluginError, Registry, RequestError, hookimpl, verify
from sdcore.cli import main
from sdcore.testing.tiny import tiny_folder
from sdcore.verifying import EXIT_CODES, VERDICTS, Ancestor, Finding, Subject, Verifier
from sdcore.verifying.findings import overall


class StampOptions(Options):
    word: str = "stamp"
    anchors: str | None = None


def look(subject: Subject, options: StampOptions) -> Finding:
    if options.word.encode() not in subject.data:
        return Finding("none", "no stamp")
    facts = (("word", options.word), ("anchors", str(options.anchors)), ("size", str(subject.image.size)))
    return Finding("trusted", "stamped", facts, signed=True, details={"mime": subject.mime_type})


class StampPlugin(Plugin):
    name = "stamp"

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.add("verifier", "stamp", Verifier(look, StampOptions, "a stamp"))


def plugin(check: Callable[..., Any], name: str = "other") -> type[Plugin]:
    class Other(Plugin):
        @hookimpl
        def register(self, registry: Registry) -> None:
            registry.add("verifier", name, Verifier(check))

    Other.name = name
    return Other


@pytest.fixture(scope="module")
def drawn() -> Any:
    with Engine.load(tiny_folder("sd1"), plugins=[]) as engine:
        return engine.generate("a <b>red</b> apple", seed=1, steps=1, height=32, width=32).pictures[0]


def png(**text: str) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info, out = PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key, value)
    Image.new("RGB", (40, 30), "red").save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_a_record_is_present_and_proves_nothing(drawn: Any) -> None:
    found = verify(drawn.encode("png"), plugins=[])
    assert found.verdict == "present"
    assert not found.trusted
    assert dict(found.findings["record"].facts)["seed"] == "1"
    assert "fits the pixels" in found.findings["record"].summary
    assert verify(drawn.encode("jpeg"), plugins=[]).verdict == "present"
    assert verify(png(), plugins=[]).verdict == "none"


def test_pixels_that_are_not_those_of_the_record_are_told(drawn: Any) -> None:
    from sdcore.picture_files import encode_image

    changed = drawn.image.copy()
    changed.putpixel((3, 3), (1, 2, 3))
    found = verify(encode_image(changed, "png", drawn.record), plugins=[])
    assert found.verdict == "altered"
    record = drawn.record.to_json().replace('"seed":1', '"seed":2')
    assert verify(png(sdcore=record), plugins=[]).verdict == "altered"
    assert verify(png(sdcore="{}"), plugins=[]).verdict == "altered"


def test_a_third_party_verifier_decides_if_it_rests_on_a_signature(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(Comment="a stamp"))
    found = verify(path, plugins=[StampPlugin])
    assert (found.verdict, found.name, found.size) == ("trusted", "a.png", (40, 30))
    assert next(iter(found.findings)) == "stamp"
    assert found.findings["stamp"].details["mime"] == "image/png"
    given = ["stamp:word=seal"], [{"plugin": "stamp", "options": {"word": "seal"}}], [StampOptions(word="seal")]
    for use in given:
        assert verify(path, plugins=[StampPlugin], use=use).verdict == "none"
    told = verify(path, plugins=[StampPlugin], use="stamp:word=stamp", anchors="root.pem")
    assert dict(told.findings["stamp"].facts)["anchors"] == "root.pem"
    assert json.loads(told.to_json())["findings"]["stamp"]["verdict"] == "trusted"


def test_the_host_of_an_engine_can_be_given() -> None:
    with Engine.load(tiny_folder("sd1"), plugins=[StampPlugin]) as engine:
        assert set(verify(png(), host=engine.host).findings) == {"stamp", "record"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use": ["stmp:word=x"]}, "no verifier 'stmp'. Did you mean 'stamp'"),
        ({"use": ["stamp:wrd=x"]}, "no option 'wrd'"),
        ({"use": ["record:x=1"]}, "'record' has no options"),
        ({"use": ["stamp:word=x", "stamp:word=y"]}, "given twice"),
        ({"use": ["stamp:anchors=x"], "anchors": "y"}, "given twice"),
        ({"use": [type("Strange", (Options,), {})()]}, "no verifier has options of type Strange"),
    ],
)
def test_wrong_options_are_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        verify(png(), plugins=[StampPlugin], **arguments)


def test_anchors_need_somebody_who_knows_trust() -> None:
    with pytest.raises(RequestError, match="no installed verifier knows trust"):
        verify(png(), plugins=[], anchors="root.pem")


def test_a_verifier_that_fails_does_not_silence_the_others(drawn: Any) -> None:
    def broken(subject: Subject, options: None) -> Finding:
        raise ZeroDivisionError("made to break")

    found = verify(drawn.encode("png"), plugins=[plugin(broken)])
    assert found.findings["other"].verdict == "unchecked"
    assert "ZeroDivisionError: made to break" in found.findings["other"].summary
    assert found.verdict == "present"
    with pytest.raises(PluginError, match=r"verifier other.*returned bool"):
        verify(png(), plugins=[plugin(lambda *_: True)])
    with pytest.raises(ValueError, match="must be one of"):
        Finding("fine", "")  # type: ignore[arg-type]


def _bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels by its head."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return head + struct.pack(">I", 1000) + b"IDAT" + zlib.compress(bytes(10_000))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a picture"),
        (b"<svg onload=alert(1)>" * 10, "is not a picture"),
        (png()[:60], "truncated or damaged"),
        (_bomb(), "3,600,000,000 pixels|too many pixels"),
    ],
    ids=["empty", "svg", "truncated", "bomb"],
)
def test_what_is_no_sound_picture_is_a_clear_error(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        verify(data, plugins=[])


def test_limits_and_places(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 50 bytes"):
        verify(png(), plugins=[], max_bytes=50)
    with pytest.raises(ImageError, match="the limit is 100"):
        verify(png(), plugins=[], max_pixels=100)
    with pytest.raises(ImageError, match="there is no file"):
        verify(tmp_path / "gone.png", plugins=[])
    with pytest.raises(ImageError, match="is not a file"):
        verify(tmp_path, plugins=[])
    with pytest.raises(ImageError, match="is no file"):
        verify(3, plugins=[])  # type: ignore[arg-type]


def test_a_verification_is_not_true_or_false() -> None:
    with pytest.raises(TypeError, match=r"verification\.trusted"):
        bool(verify(png(), plugins=[]))


def test_signatures_decide_and_the_worst_of_them() -> None:
    def of(**verdicts: Any) -> str:
        signed = ("trusted", "valid-untrusted", "recovered", "recovered-untrusted", "altered", "invalid")
        return overall({name: Finding(v, "", signed=v in signed and name[0] == "s") for name, v in verdicts.items()})

    assert of(s="trusted", record="altered") == "trusted"
    assert of(s="trusted", s2="invalid") == "invalid"
    assert of(s="recovered", record="present") == "recovered"
    assert of(s="valid-untrusted", s2="trusted") == "valid-untrusted"
    assert of(a="altered", b="present") == "altered"
    assert of(a="none", b="unchecked") == "none"
    assert of(a="trusted") == "unchecked"  # without a signature nobody can say so
    assert set(EXIT_CODES) == set(VERDICTS)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert EXIT_CODES["trusted"] == 0
    assert not {1, 2, 130} & set(EXIT_CODES.values())


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


EVIL = "<script>alert('x')</script>\"><img src=http://evil/x onerror=alert(1)>\x1b[2J"


def test_the_page_holds_nothing_that_the_picture_could_run(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.new("RGB", (50, 50), "blue").save(thumbnail, "PNG", pnginfo=None)
    small = thumbnail.getvalue() + b"<script>"
    inner = Ancestor(EVIL, "altered", EVIL, (EVIL,), EVIL, b"<svg onload=alert(1)></svg>")
    history = (Ancestor(EVIL, "trusted", EVIL, (EVIL,), EVIL, small, (inner,)),)
    finding = Finding("valid-untrusted", EVIL, ((EVIL, EVIL),), history, True, {"raw": EVIL})
    path = tmp_path / "<script>.png"
    path.write_bytes(png())
    found = verify(path, plugins=[plugin(lambda *_: finding)])
    text = found.to_html()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "svg", "a", "link", "iframe", "form", "base", "object"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,")
    assert sum(tag == "img" for tag, _ in page.tags) == 2  # the picture and a thumbnail; the svg is dropped
    assert "default-src 'none'" in html.unescape(text)
    assert "<script>alert" in page.words  # shown, as text
    assert "\x1b" not in text + found.to_text()


def test_the_command(tmp_path: Path, drawn: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(drawn.encode("png"))
    Path("b.png").write_bytes(png())
    Path("c.png").write_bytes(png()[:60])
    source = Path(__file__).read_text().split("def plugin(")[0].replace("from sdcore.cli import main\n", "")
    Path("stamp.py").write_text(source)
    Path("d.png").write_bytes(png(Comment="a stamp"))
    assert main(["verify", "a.png", "--no-plugins"]) == EXIT_CODES["present"]
    out = capsys.readouterr().out
    assert out.startswith("a.png  PNG 32x32\nPRESENT: ")
    assert "a <b>red</b> apple" in out
    assert main(["verify", "b.png", "--no-plugins", "--json", "--html", "b.html"]) == EXIT_CODES["none"]
    assert json.loads(capsys.readouterr().out)["verdict"] == "none"
    assert Path("b.html").read_text().startswith("<!doctype html>")
    assert main(["verify", "b.png", "--no-plugins", "--html", "b.html"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["verify", "c.png", "--no-plugins"]) == 2
    assert "truncated or damaged" in capsys.readouterr().err
    own = ["--plugin", "stamp.py", "--no-plugins"]
    assert main(["verify", "d.png", *own]) == EXIT_CODES["trusted"]
    assert main(["verify", "d.png", *own, "--with", "stamp:word=seal"]) == EXIT_CODES["none"]
    assert main(["verify", "d.png", *own, "--with", "stamp:wrd=seal"]) == 2
