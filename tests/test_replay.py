"""Replay: the same pixels again, every difference named, and nothing opened that was not allowed."""

from __future__ import annotations

import builtins
import dataclasses
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from PIL import Image, PngImagePlugin

from sdcore.assets import change_assets
from sdcore.engine import Engine
from sdcore.errors import RecordError, RequestError
from sdcore.images import image_sha256, load_image
from sdcore.latent_files import encode_latents
from sdcore.parameters_text import parameters_text
from sdcore.picture_files import encode_image, read_record
from sdcore.plugin import Asset, AssetMark, Options, Plugin, hookimpl
from sdcore.ports import Contributions
from sdcore.ports import image as image_port
from sdcore.record import Record
from sdcore.replay import replay_picture
from sdcore.run import Run
from sdcore.testing.tiny import tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, with NumPy 2


class Tint(Options):
    path: Asset
    weight: float = 1.0
    more: tuple[Asset, ...] = ()
    picture: Annotated[Any, AssetMark()] = None


class TintPlugin(Plugin):
    name = "tint"
    options = Tint

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        (tint,) = run.uses(Tint)
        shade = Path(tint.path).read_bytes()[0]
        return image_port(lambda picture, image: Image.blend(image, Image.new("RGB", image.size, (shade, 0, 0)), 0.5))


class Place(Plugin):
    name = "place"

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        return image_port(lambda picture, image: image if picture.index == 0 else image.transpose(0))


class House(Options):
    locked = True


class HousePlugin(Plugin):
    name = "house"
    options = House

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        return image_port(lambda picture, image: image.transpose(0))


PLUGINS = (TintPlugin, Place, HousePlugin)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("SDCORE_MODEL", raising=False)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.load(str(tiny_folder("sd1")), plugins=PLUGINS) as engine:
        yield engine


def forged(record: Record, **fields: Any) -> Record:
    """A record changed by someone who computes the digest anew."""
    return Record.from_json(record.model_copy(update=fields).to_json())


# --- the same again


@pytest.mark.parametrize("scheduler", ["euler-a", "dpmpp-2m-karras", "dpmpp-sde", "ddim"])
def test_identical(engine: Engine, tmp_path: Path, scheduler: str) -> None:
    result = engine.generate("a cat", seed=3, steps=3, scheduler=scheduler, negative_prompt="a dog")
    (path,) = result.save(tmp_path / "a.png")
    replay = replay_picture(path, engine=engine)
    assert replay.identical
    assert replay.differences == []
    assert replay.edited is False
    assert replay.image.tobytes() == load_image(path).tobytes()
    assert replay.picture.record == read_record(path)


def test_a_model_is_loaded_by_name(engine: Engine, tmp_path: Path) -> None:
    (path,) = engine.generate("a cat", seed=3, steps=2).save(tmp_path / "a.png")
    assert replay_picture(path, model=str(tiny_folder("sd1")), plugins=()).identical


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_every_format_holds_the_record(engine: Engine, suffix: str, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=3, steps=2)
    (path,) = result.save(tmp_path / f"a.{suffix}")
    for source in (path, str(path), path.read_bytes(), read_record(path)):
        replay = replay_picture(source, engine=engine)
        assert replay.identical
        assert replay.image.tobytes() == result.image.tobytes()
        assert replay.edited is (False if suffix == "png" and not isinstance(source, Record) else None)


def test_each_of_a_batch(engine: Engine) -> None:
    result = engine.generate("a cat", seed=5, count=3, steps=2, batch_size=3)
    for picture in result.pictures:
        assert picture.record.batch == (5, 6, 7)
        replay = replay_picture(picture.encode(), engine=engine)
        assert replay.identical
        assert (replay.picture.seed, replay.picture.index) == (picture.seed, picture.index)


def test_of_the_second_batch_only_that_is_made(engine: Engine) -> None:
    result = engine.generate("a cat", seed=5, count=3, steps=2, batch_size=2)
    record = result.pictures[2].record
    assert (record.batch, record.index) == ((7,), 2)
    replay = replay_picture(record, engine=engine)
    assert replay.identical
    assert replay.picture.index == 0


def test_a_plugin_that_minds_the_place_is_explained(engine: Engine) -> None:
    result = engine.generate("a cat", seed=5, count=2, steps=2, batch_size=1, use=["place"])
    replay = replay_picture(result.pictures[1].record, engine=engine)
    assert not replay.identical
    assert replay.differences == ["it was picture 2 of its request, here it is 1, which a plugin may mind"]


def test_threads_of_torch_as_recorded_and_then_as_before(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    record = engine.generate("a cat", seed=3, steps=1).record
    before = torch.get_num_threads()
    other = 2 if before == 1 else 1
    replay = replay_picture(forged(record, threads=other), engine=engine)
    assert replay.picture.record.threads == other
    assert torch.get_num_threads() == before
    replay = replay_picture(forged(record, threads=10**6), engine=engine)
    assert replay.identical
    assert replay.differences == [f"torch had 1000000 as its number of threads, here it has {before}"]


# --- input pictures


def test_an_input_picture_is_found_by_its_hash(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    engine.generate("a dog", seed=1, steps=2).save(folder / "any name.png")
    result = engine.generate("a cat", seed=3, steps=4, image=folder / "any name.png", strength=0.5)
    (path,) = result.save(tmp_path / "a.png")
    with pytest.raises(RecordError, match=r"image: any name\.png \(sha256 \w+\) is needed.*--allow PATH"):
        replay_picture(path, engine=engine)
    for allow in (folder / "any name.png", folder, tmp_path, str(tmp_path)):
        assert replay_picture(path, engine=engine, allow=[allow]).identical
    (folder / "any name.png").rename(folder / "moved")
    assert replay_picture(path, engine=engine, allow=[folder]).identical
    (folder / "moved").write_bytes((folder / "moved").read_bytes() + b"x")
    with pytest.raises(RecordError, match="not among what is allowed"):
        replay_picture(path, engine=engine, allow=[folder])


def test_a_picture_given_in_memory_is_found_by_its_pixels(engine: Engine, tmp_path: Path) -> None:
    given = engine.generate("a dog", seed=1, steps=2).image
    result = engine.generate("a cat", seed=3, steps=4, image=given, strength=0.5)
    assert result.record.request["image"]["asset"] == "pixels"
    (tmp_path / "not one.png").write_text("no picture")
    given.save(tmp_path / "elsewhere.bmp")
    assert replay_picture(result.record, engine=engine, allow=[tmp_path]).identical
    (tmp_path / "elsewhere.bmp").unlink()
    with pytest.raises(RecordError, match="image: pixels"):
        replay_picture(result.record, engine=engine, allow=[tmp_path])


def test_latents_given_in_memory_are_found_by_their_values(engine: Engine, tmp_path: Path) -> None:
    latents = engine.generate("a dog", seed=1, steps=2, output="latent").latents
    result = engine.generate("a cat", seed=3, steps=4, image=latents, strength=0.5)
    (tmp_path / "broken.safetensors").write_text("no")
    (tmp_path / "half.safetensors").write_bytes(encode_latents(latents))
    assert replay_picture(result.record, engine=engine, allow=[tmp_path]).identical
    with pytest.raises(RecordError, match="image: latents"):
        replay_picture(result.record, engine=engine, allow=[tmp_path / "broken.safetensors"])


# --- plugins and their files


def test_files_of_options_are_found_by_their_hashes(engine: Engine, tmp_path: Path) -> None:
    shade, other = tmp_path / "shade.bin", tmp_path / "other.bin"
    shade.write_bytes(b"\x80shade")
    other.write_bytes(b"other")
    picture = Image.new("RGB", (16, 16), "red")
    use = [Tint(path=str(shade), weight=0.3, more=(str(other), str(tmp_path)), picture=picture)]
    record = engine.generate("a cat", seed=3, steps=2, use=use).record
    (entry,) = record.request["use"]
    assert entry["options"]["path"]["asset"] == "shade.bin"
    assert [item["asset"] for item in entry["options"]["more"]] == ["other.bin", tmp_path.name]
    assert entry["options"]["picture"]["asset"] == "pixels"
    assert str(tmp_path) not in record.to_json()
    assert {asset.name for asset in record.assets} == {"shade.bin", "other.bin", tmp_path.name, "pixels"}
    with pytest.raises(RecordError, match=r"tint: path: shade\.bin"):
        replay_picture(record, engine=engine)
    away = tmp_path.parent / f"{tmp_path.name}-more"
    away.mkdir()
    picture.save(away / "red.png")
    assert replay_picture(record, engine=engine, allow=[tmp_path, away]).identical
    with pytest.raises(RecordError, match=r"tint: picture: pixels"):
        replay_picture(record, engine=engine, allow=[tmp_path])


def test_a_name_that_is_no_file_must_be_allowed_as_it_is() -> None:
    values = change_assets(Tint, {"path": "owner/name"}, lambda where, value: {"asset": value, "sha256": where})
    assert values == {"path": {"asset": "owner/name", "sha256": "path"}}


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", {"asset": "/etc/passwd", "sha256": ""}, {"asset": "x", "sha256": 5}, {"asset": "x"}, 5],
)
def test_a_path_in_a_record_is_never_opened(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: object
) -> None:
    (tmp_path / "shade").write_bytes(b"\x80")
    record = engine.generate("a cat", seed=3, steps=2, use=[Tint(path=str(tmp_path / "shade"))]).record
    opened: list[str] = []
    for owner, name in ((builtins, "open"), (io, "open"), (os, "open")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda file, *a, real=real, **k: (opened.append(str(file)), real(file, *a, **k))[1]
        )
    for change in ({"use": [{"plugin": "tint", "options": {"path": path}}]}, {"image": path, "strength": 0.5}):
        bad = forged(record, request={**record.request, "use": [], **change})
        with pytest.raises((RecordError, RequestError)):
            replay_picture(bad, engine=engine, allow=[tmp_path])
    assert not [file for file in opened if "passwd" in file or file.endswith("../x")]


def test_missing_plugins_are_named(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    use = [{"plugin": name, "options": {}} for name in ("gone", "file", "gone")]
    software = {**record.software, "sdcore-gone": "1.2", "plugin file": "file 0123", "evil": "6"}
    bad = forged(record, request={**record.request, "use": use}, software=software)
    for arguments in ({"engine": engine}, {"model": str(tiny_folder("sd1"))}):
        with pytest.raises(RecordError, match=r"gone, file; .*pip install sdcore-gone==1\.2; give the file") as caught:
            replay_picture(bad, **arguments)  # type: ignore[arg-type]
        assert "evil" not in str(caught.value)


@pytest.mark.parametrize("use", ["tint", [5], [{"plugin": 5}], [{"plugin": "tint", "options": 5}]])
def test_malformed_use(engine: Engine, use: object) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    with pytest.raises(RecordError, match="malformed"):
        replay_picture(forged(record, request={**record.request, "use": use}), engine=engine)


def test_what_an_application_adds_to_every_run_does_not_come_twice(tmp_path: Path) -> None:
    (tmp_path / "shade").write_bytes(b"\x80")
    policy = [House()]
    with Engine.load(str(tiny_folder("sd1")), plugins=PLUGINS, always=policy) as strict:
        record = strict.generate("a cat", seed=3, steps=2).record
        assert [entry["plugin"] for entry in record.request["use"]] == ["house"]
        assert replay_picture(record, engine=strict).identical
    with Engine.load(str(tiny_folder("sd1")), plugins=PLUGINS) as free:
        assert replay_picture(record, engine=free).identical
        assert free.generate("a cat", seed=3, steps=2).record.pixels_sha256 != record.pixels_sha256


def test_a_plugin_without_a_package_is_recorded_by_the_hash_of_its_file(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2, use=["place"]).record
    assert record.software["plugin place"].startswith("file ")
    changed = {**record.software, "plugin place": "file 0000"}
    (difference,) = replay_picture(forged(record, software=changed), engine=engine).differences
    assert difference.startswith("plugin place file 0000 made it, file ")


# --- differences


def test_another_version_is_named(engine: Engine, tmp_path: Path) -> None:
    result = engine.generate("a cat", seed=3, steps=2)
    record = forged(result.record, software={**result.record.software, "torch": "1.13.0"}, pixels_sha256="0" * 64)
    path = tmp_path / "a.png"
    path.write_bytes(encode_image(result.image, "png", record))
    replay = replay_picture(path, engine=engine)
    assert not replay.identical
    assert replay.edited
    assert replay.differences == [f"torch 1.13.0 made it, {result.record.software['torch']} is here"]


def test_a_difference_that_does_not_matter_is_still_named(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    replay = replay_picture(forged(record, platform="Plan9 vax"), engine=engine)
    assert replay.identical
    assert replay.differences == [f"it was made on Plan9 vax, here it is {record.platform}"]


def test_where_nothing_is_known_to_differ_that_is_said(engine: Engine) -> None:
    record = forged(engine.generate("a cat", seed=3, steps=2).record, pixels_sha256="0" * 64)
    (difference,) = replay_picture(record, engine=engine).differences
    assert difference.startswith("nothing that is recorded differs")


def test_another_model(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    other = str(tiny_folder("sd1", seed=1))
    replay = replay_picture(record, model=other, plugins=())
    assert not replay.identical
    assert sum("of the model made it, another one" in difference for difference in replay.differences) == 3


def test_the_prediction_type_of_the_record_is_used(tmp_path: Path) -> None:
    folder = str(tiny_folder("sd1"))
    with Engine.load(folder, plugins=(), prediction_type="v_prediction") as engine:
        record = engine.generate("a cat", seed=3, steps=2).record
    assert replay_picture(record, model=folder, plugins=()).identical
    replay = replay_picture(record, model=folder, plugins=(), prediction_type="epsilon")
    assert not replay.identical
    assert replay.differences == ["the model's scheduler had prediction_type v_prediction, here it has epsilon"]


def test_a_tampered_record(engine: Engine) -> None:
    result = engine.generate("a cat", seed=3, steps=2)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("sdcore", json.dumps({**json.loads(result.record.to_json()), "seed": 4}))
    file = io.BytesIO()
    result.image.save(file, "PNG", pnginfo=chunks)
    with pytest.raises(RecordError, match="changed after it was written"):
        replay_picture(file.getvalue(), engine=engine)
    data = result.pictures[0].encode()
    with pytest.raises(RecordError, match="damaged"):
        replay_picture(data.replace(b'"seed":3,', b'"seed":4,'), engine=engine)
    with pytest.raises(RecordError, match="seed of the picture is not among"):
        replay_picture(forged(result.record, seed=4), engine=engine)


@pytest.mark.parametrize(
    "change", [{"steps": 10**9}, {"scheduler": "no such"}, {"nonsense": 1}, {"prompt": 5}, {"height": 7}]
)
def test_a_forged_request_is_refused_like_any_other(engine: Engine, change: dict[str, Any]) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    with pytest.raises(RequestError):
        replay_picture(forged(record, request={**record.request, **change}), engine=engine)
    assert replay_picture(record, engine=engine).identical


def test_a_picture_that_was_edited(engine: Engine) -> None:
    result = engine.generate("a cat", seed=3, steps=2)
    data = encode_image(result.image.transpose(0), "png", result.record)
    replay = replay_picture(data, engine=engine)
    assert replay.identical
    assert replay.edited
    cut = result.pictures[0].encode()[:-400]
    assert replay_picture(cut, engine=engine).edited


def test_what_plugins_changed_is_in_the_text_for_other_tools(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    assert record.changes == {}
    assert "Steps: 2, " in parameters_text(record)
    assert "Steps: 9, " in parameters_text(forged(record, changes={"steps": 9}))


# --- finding the model


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from sdcore.models.installed import InstalledModel

    models = [
        InstalledModel("broken", "x 1", None, "ImportError"),
        InstalledModel("other", "other 1", tiny_folder("sd1", seed=1)),
        InstalledModel("large", "large 1", tiny_folder("sdxl")),
        InstalledModel("right", "right 1", tiny_folder("sd1")),
    ]
    for place in ("sdcore.models", "sdcore.models.installed", "sdcore.models.load"):
        monkeypatch.setattr(f"{place}.installed_models", lambda: models)
    return models


def test_the_installed_model_with_the_same_hashes_is_found(engine: Engine, installed: list[Any]) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    replay = replay_picture(record, plugins=())
    assert replay.identical
    assert replay.picture.record.model.source == "right"
    del installed[-1]
    with pytest.raises(RecordError, match=r"no installed model has the weights of .*sd1.*installed: other, large"):
        replay_picture(record, plugins=())


@pytest.mark.parametrize("name", ["../sd1/unet", "/etc", "nonsense"])
def test_components_of_a_record_are_no_paths(engine: Engine, installed: list[Any], name: str) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    components = {**record.model.components, name: record.model.components["unet"]}
    model = record.model.model_copy(update={"components": components})
    with pytest.raises(RecordError, match="no installed model"):
        replay_picture(forged(record, model=model), plugins=())


def test_a_device_that_is_not_here(engine: Engine) -> None:
    record = engine.generate("a cat", seed=3, steps=2).record
    elsewhere = forged(record, device="xpu:7", dtype="__class__")
    replay = replay_picture(elsewhere, model=str(tiny_folder("sd1")), plugins=(), device="cpu", dtype="float32")
    assert replay.identical
    assert len(replay.differences) == 2


def test_a_replay_is_a_plain_value(engine: Engine) -> None:
    replay = replay_picture(engine.generate("a cat", seed=3, steps=1).record, engine=engine)
    assert image_sha256(replay.image) == replay.record.pixels_sha256
    with pytest.raises(dataclasses.FrozenInstanceError):
        replay.identical = False  # type: ignore[misc]


def test_schemas_say_which_options_are_files() -> None:
    class Files(Options):
        path: Asset
        maybe: Asset | None = None
        picture: Annotated[Any, AssetMark()] = None
        many: tuple[Asset, ...] = ()
        word: str = ""

    found = Files.model_json_schema()["properties"]
    assert found["path"]["format"] == found["picture"]["format"] == found["many"]["items"]["format"] == "asset"
    assert [kind.get("format") for kind in found["maybe"]["anyOf"]] == ["asset", None]
    assert "format" not in found["word"]
