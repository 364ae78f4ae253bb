"""The seal is last: whatever way a picture leaves, its bytes verify, so nothing wrote to them afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")

from sdcore_watermark import Key, Watermark
from sdcore_watermark.credentials import Credentials

from sdcore import Engine, OutputError, RequestError, Result, replay_picture, verify
from sdcore.cli import main
from sdcore.events import Finished, Stepped
from sdcore.testing.tiny import tiny_folder

BIG: dict[str, Any] = {"seed": 3, "steps": 1, "height": 192, "width": 192}  # large enough for a payload
FAST: dict[str, Any] = {"seed": 3, "steps": 1, "height": 64, "width": 64}
SUFFIXES = (".png", ".jpg", ".webp")


@dataclass(frozen=True)
class Application:
    """An application that puts a watermark and credentials on everything."""

    engine: Engine
    mark: str
    anchors: str

    def assert_whole(self, file: bytes | Path) -> dict[str, Any]:
        """Trusted, marked, and the credential names this very mark."""
        use = [f"{name}:key={self.mark},search=fast" for name in ("watermark", "credentials")]
        found = verify(file, anchors=self.anchors, use=use, host=self.engine.host)
        assert found.verdict == "trusted", found.to_text()
        assert found.findings["watermark"].verdict == "present"
        assert dict(found.findings["credentials"].facts)["watermark found"] == "the one that the credential names"
        return found.to_dict()


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, chain: Callable[[str], Any]) -> Iterator[Application]:
    folder, made = tmp_path_factory.mktemp("application"), chain("es256")
    (folder / "c.pem").write_text(made.certificates)
    (folder / "k.pem").write_text(made.key)
    (folder / "root.pem").write_text(made.root)
    mark = str(Key((bytes(range(32)),)).save(folder / "mark.key"))
    seal = Credentials(certificate=folder / "c.pem", key=folder / "k.pem", store=folder / "store")
    always = [Watermark(key=mark), seal]
    with Engine.load(tiny_folder("sd1"), plugins=["watermark", "credentials"], always=always) as engine:
        yield Application(engine, mark, str(folder / "root.pem"))


@pytest.fixture(scope="module")
def result(application: Application) -> Result:
    """Three pictures, drawn in two batches."""
    return application.engine.generate("a cat", count=3, batch_size=2, **BIG)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_save(suffix: str, application: Application, result: Result, tmp_path: Path) -> None:
    told = [application.assert_whole(path) for path in result.save(tmp_path / f"cat{suffix}")]
    facts = [dict(one["findings"]["credentials"]["facts"]) for one in told]
    assert [fact["seed"] for fact in facts] == ["3", "4", "5"]
    assert len({one["findings"]["watermark"]["details"]["payload"] for one in told}) == 3


def test_encode(application: Application, result: Result) -> None:
    for kind in ("png", "jpeg", "webp"):
        application.assert_whole(result.pictures[0].encode(kind))


def test_stream(application: Application) -> None:
    previews, streamed = [], application.engine.stream("a cat", **BIG)
    for event in streamed:
        if isinstance(event, Stepped):
            previews += event.preview()
        if isinstance(event, Finished):
            application.assert_whole(event.result.pictures[0].encode("png"))
    assert previews == []
    application.assert_whole(streamed.result().pictures[0].encode("png"))


def test_replay_by_the_application(application: Application, result: Result) -> None:
    again = replay_picture(result.pictures[2].encode("png"), engine=application.engine)
    assert again.identical
    application.assert_whole(again.picture.encode("png"))


def test_a_closed_engine_does_not_keep_pictures_from_being_signed(
    files: dict[str, str], signed_by: dict[str, str]
) -> None:
    with Engine.load(tiny_folder("sd1"), plugins=["credentials"], always=[Credentials(**signed_by)]) as engine:
        made = engine.generate("a cat", **FAST)
    assert verify(made.pictures[0].encode("png"), anchors=files["anchors"], host=engine.host).trusted


def test_others_replay_a_signed_picture_without_the_key(
    tiny: Engine, signed_by: dict[str, str], tmp_path: Path
) -> None:
    (path,) = tiny.generate("a cat", use=[Credentials(**signed_by)], **FAST).save(tmp_path / "cat.png")
    with Engine.load(tiny_folder("sd1"), plugins=[]) as bare:
        again = replay_picture(path, engine=bare)
    assert again.identical
    assert again.differences == []
    assert str(tmp_path) not in again.record.to_json()


def test_the_command_line(files: dict[str, str], key: Key, tmp_path: Path, capsys: Any) -> None:
    mark = key.save(tmp_path / "mark.key")
    credentials = f"credentials:certificate={files['certificate']},key={files['key']}"
    for suffix in SUFFIXES:
        out = str(tmp_path / f"cat{suffix}")
        arguments = ["generate", "a cat", "--model", str(tiny_folder("sd1")), "--steps", "1"]
        arguments += ["--height", "64", "--width", "64", "--plugins", "watermark,credentials", "--quiet"]
        assert main([*arguments, "--use", f"watermark:key={mark}", "--use", credentials, "-o", out]) == 0
        capsys.readouterr()
        code = main(["verify", out, "--anchors", files["anchors"], "--json", "--plugins", "watermark,credentials"])
        told = json.loads(capsys.readouterr().out)
        assert (code, told["verdict"]) == (0, "trusted")
        assert main(["verify", out, "--plugins", "watermark,credentials"]) == 4
        assert "VALID-UNTRUSTED" in capsys.readouterr().out


def test_a_mark_without_payload_is_not_kept_and_that_is_told(application: Application) -> None:
    told: list[str] = []
    small = application.engine.generate("a cat", on_event=lambda e: told.append(getattr(e, "message", "")), **FAST)
    small.pictures[0].encode("png")
    assert any("not kept in the store" in text for text in told)


def test_a_request_cannot_get_around_the_policy(application: Application, signed_by: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="set by the application"):
        application.engine.generate("a cat", use=[Credentials(**signed_by, previews="allow")], **FAST)
    with pytest.raises(RequestError, match="cannot be signed"):
        application.engine.generate("a cat", output="latent", **FAST)


def test_a_format_that_is_not_signed_is_not_written(tiny: Engine, signed_by: dict[str, str], tmp_path: Path) -> None:
    result = tiny.generate("a cat", use=[Credentials(**signed_by)], **FAST)
    with pytest.raises(OutputError, match=r"is no format"):
        result.save(tmp_path / "cat.bmp")
    assert not (tmp_path / "cat.bmp").exists()


def test_nothing_of_c2pa_is_imported_before_it_is_used() -> None:
    import subprocess
    import sys

    code = (
        "import sys, sdcore_watermark.credentials, sdcore_watermark.credentials.plugin\n"
        "from sdcore.host import PluginHost\n"
        "PluginHost(['watermark', 'credentials'])\n"
        "print([name for name in ('c2pa', 'cryptography', 'torch', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_used_twice_or_warns(tiny: Engine, signed_by: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="used 2 times"):
        tiny.explain("a cat", use=[Credentials(**signed_by), Credentials(**signed_by)], **FAST)
    told: list[str] = []
    dead = Credentials(**signed_by, timestamp_url="http://127.0.0.1:9/")
    result = tiny.generate("a cat", use=[dead], on_event=lambda e: told.append(getattr(e, "message", "")), **FAST)
    result.save(tmp_path / "cat.png")
    assert any("without a time-stamp" in text for text in told)


def test_safety_watermark_and_credentials_together(
    files: dict[str, str], signed_by: dict[str, str], key_file: str
) -> None:
    """The order is safety, watermark, metadata, seal; the manifest names the safety report by its hash."""
    safety = pytest.importorskip("sdcore_safety")
    always = [Credentials(**signed_by), Watermark(key=key_file), safety.Safety()]  # however they are given
    names = ["safety", "watermark", "credentials"]
    with Engine.load(tiny_folder("sd1"), plugins=names, always=always) as engine:
        rows = [(row.port, row.plugin) for row in engine.explain("a cat", **FAST).rows() if not row.default]
        made = engine.generate("a cat", **FAST)
        found = verify(made.pictures[0].encode("png"), anchors=files["anchors"], host=engine.host)
    outputs = [row for row in rows if row[0] in ("decode.image", "output.metadata", "output.seal")]
    assert outputs[0] == ("decode.image", "watermark")
    assert outputs[-1] == ("output.seal", "credentials")
    assert found.verdict == "trusted"
    facts = dict(found.findings["credentials"].facts)
    assert facts["safety report"] == made.reports[0]["safety"]["report_sha256"]
    assert "sdcore-safety" in facts["made with"]
