"""Results: pictures, numbers, files, formats of plugins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdcore.engine import Engine
from sdcore.errors import OutputError, RequestError
from sdcore.images import load_image
from sdcore.picture_files import read_record
from sdcore.plugin import Plugin, hookimpl
from sdcore.ports import Contributions, judge_image, metadata
from sdcore.registry import Registry
from sdcore.run import Run
from sdcore.stages import SerializeArgs, Verdict
from sdcore.testing.tiny import tiny_folder


class Formats(Plugin):
    name = "formats"

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.add("image_format", "txt", lambda args: f"{args.format} {args.quality} {args.image.size}".encode())


class Second(Plugin):
    """Withholds the second picture, and flags the third."""

    name = "second"

    @hookimpl
    def judge(self, run: Run) -> Contributions:
        verdicts = {1: Verdict("withhold", "no", "c"), 2: Verdict("flag", "hm", "c")}
        return judge_image(lambda picture, image: verdicts.get(picture.index))


class Facts(Plugin):
    name = "facts"

    @hookimpl
    def output(self, run: Run) -> Contributions:
        return metadata(lambda picture: {"place": picture.index})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(str(tiny_folder("sd1")), plugins=[Formats, Second, Facts]) as engine:
        yield engine


def test_one_picture(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, steps=2, use=["facts"])
    assert result.seeds == [4]
    assert result.image is result.images[0] is result.pictures[0].image
    assert result.reports == [{"facts": {"place": 0}}]
    assert result.record is result.pictures[0].record
    assert result.record.metadata == {"facts": {"place": 0}}
    assert result.latents.shape == (1, 4, 16, 16)
    assert result.save(tmp_path / "a.png") == [tmp_path / "a.png"]
    assert load_image(tmp_path / "a.png").tobytes() == result.image.tobytes()


def test_several_pictures_get_their_numbers(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, count=10, steps=1)
    files = result.save(str(tmp_path / "a.png"))
    assert [file.name for file in files] == [f"a-{n:02d}.png" for n in range(1, 11)]
    assert [read_record(file).seed for file in files] == list(range(4, 14))


def test_a_picture_that_was_withheld_leaves_a_gap(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, count=3, steps=1, use=["second"])
    assert [picture.index for picture in result.pictures] == [0, 2]
    assert [(item.seed, item.index, item.verdicts[0].reason) for item in result.withheld] == [(5, 1, "no")]
    assert result.latents.shape[0] == 2
    assert result.pictures[1].verdicts[0].reason == "hm"
    assert result.pictures[1].record.metadata["sdcore"]["verdicts"][0]["severity"] == "flag"
    assert [file.name for file in result.save(tmp_path / "a.png")] == ["a-1.png", "a-3.png"]


def test_a_taken_name_is_noticed_before_anything_is_written(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, count=2, steps=1)
    (tmp_path / "a-2.png").write_text("mine")
    with pytest.raises(OutputError, match=r"a-2\.png exists already"):
        result.save(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a-2.png"]
    assert len(result.save(tmp_path / "a.png", overwrite=True)) == 2


@pytest.mark.parametrize("name", ["a", "a.gif", "a."])
def test_a_format_that_nobody_writes(engine: Engine, tmp_path: Path, name: str) -> None:
    result = engine.generate("a cat", seed=4, steps=1)
    with pytest.raises(OutputError, match="format"):
        result.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_a_plugin(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, steps=1)
    (file,) = result.save(tmp_path / "a.TXT", quality=7)
    assert file.read_text() == "txt 7 (64, 64)"
    assert result.pictures[0].encode("txt") == b"txt 95 (64, 64)"


def test_latents_alone(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=4, count=2, steps=1, output="latent")
    assert result.latents.shape == (2, 4, 16, 16)
    assert result.images == []
    for use in (lambda: result.image, lambda: result.record, lambda: result.save(tmp_path / "a.png")):
        with pytest.raises(RequestError, match="output is 'latent'"):
            use()


def test_a_result_outlives_its_engine(tmp_path: Path) -> None:
    with Engine.load(str(tiny_folder("sd1")), plugins=()) as engine:
        result = engine.generate("a cat", seed=4, steps=1)
    result.save(tmp_path / "a.png")
    assert read_record(tmp_path / "a.png").model.family == "sd1"


def test_serialize_args_are_what_save_was_given(tmp_path: Path) -> None:
    from sdcore.ports import seal, serialize

    seen: list[SerializeArgs] = []

    class Own(Plugin):
        name = "own"

        @hookimpl
        def output(self, run: Run) -> Contributions:
            def write(args: SerializeArgs) -> bytes:
                seen.append(args)
                return b"body"

            return [serialize(write), seal(lambda args, data: data + b" sealed")]

    with Engine.load(str(tiny_folder("sd1")), plugins=[Own]) as engine:
        result = engine.generate("a cat", seed=4, steps=1, use=["own"])
    (file,) = result.save(tmp_path / "a.own", quality=3)
    assert file.read_bytes() == b"body sealed"
    assert (seen[0].format, seen[0].quality, seen[0].record.seed) == ("own", 3, 4)
