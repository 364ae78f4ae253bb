"""The classifiers: the same numbers as the programs that they come from."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_safety import convert
from sdcore_safety.check import CheckSettings
from sdcore_safety.checks import mobilenet, open_nsfw
from sdcore_safety.checks.clip_checker import ClipChecker
from sdcore_safety.checks.nsfwjs import WEIGHTS, NsfwjsCheck, to_score

REFERENCE = json.loads((Path(__file__).parent / "tfjs_reference.json").read_text("utf-8"))


def pattern(kind: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """The pictures of the reference."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    values = {
        0: lambda: (3 * x + 5 * y + 70 * c) % 256,
        1: lambda: ((x * x + y * y) >> 4) * (c + 1) % 256,
        2: lambda: np.array([220, 170, 140])[c],
        3: lambda: (x * y * (c + 2) + c * 40) % 256,
    }[kind]()
    return values.astype(np.uint8)


@pytest.mark.parametrize("known", REFERENCE, ids=lambda known: f"{known['kind']}-{known['width']}")
def test_nsfwjs_gives_what_tensorflow_js_gives(known: dict[str, Any]) -> None:
    """The reference is what TensorFlow.js 4.22 makes of the model of nsfwjs 4.3.0, preparation of pictures included."""
    weights = mobilenet.read_weights(WEIGHTS)
    values = torch.from_numpy(pattern(known["kind"], known["height"], known["width"])).permute(2, 0, 1)[None] / 255
    found = mobilenet.probabilities(mobilenet.features(mobilenet.to_input(values), weights), weights)[0]
    torch.testing.assert_close(found, torch.tensor(known["probabilities"]), rtol=0, atol=5e-6)


def test_the_check_tells_the_classes_that_count() -> None:
    known = REFERENCE[2]
    image = Image.fromarray(pattern(known["kind"], known["height"], known["width"]))
    chances = dict(zip(mobilenet.CLASSES, known["probabilities"], strict=True))
    check = NsfwjsCheck(CheckSettings())
    found, again = check.score_many([image, image])
    wanted = {"sexual": chances["porn"] + chances["hentai"], "suggestive": chances["sexy"]}
    assert found == pytest.approx({name: to_score(chance) for name, chance in wanted.items()}, abs=1e-5)
    assert [to_score(chance) for chance in (0.0, 0.4, 0.8, 0.9, 1.0)] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])
    assert again == pytest.approx(found, abs=1e-6)
    assert check.features([image]).shape == (1, mobilenet.FEATURES)


def test_the_converter_takes_the_one_package_that_it_knows(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"x")
    with pytest.raises(convert.ConvertError, match="expected 4496790e"):
        convert.convert_nsfwjs(tmp_path / "other.tgz")
    assert convert.main(["nsfwjs", str(tmp_path / "gone.tgz"), "-o", str(tmp_path / "a")]) == 1


def test_the_converter_carries_every_value_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in the same form, with two small weights."""
    import base64
    import hashlib
    import io

    from safetensors.torch import load_file

    kernel, depthwise = (
        np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4),
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1),
    )
    entries = [
        f'{{name:"{name}/{part}",shape:{list(values.shape)},dtype:"float32",quantization:'
        f'{{min:-.5,scale:.25,dtype:"uint8"}}}}'
        for name, part, values in (("a", "kernel", kernel), ("b", "depthwise_kernel", depthwise))
    ]
    model = f'{{modelTopology:{{x:!0}},weightsManifest:[{{paths:["g"],weights:[{",".join(entries)}]}}]}}'
    shard = '"' + base64.b64encode(kernel.tobytes() + depthwise.tobytes()).decode() + '"'
    package = tmp_path / "p.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name, value in (("model", model), ("group1-shard1of1", shard)):
            data = f"({{1:[function(e,a,n){{a.exports={value}}},{{}}]}},{{}},[1])(1)}});".encode()
            info = tarfile.TarInfo(f"package/dist/models/mobilenet_v2/{name}.min.js")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(convert, "NSFWJS_SHA256", hashlib.sha256(package.read_bytes()).hexdigest())
    assert convert.main(["nsfwjs", str(package), "-o", str(tmp_path / "w.safetensors")]) == 0
    stored = load_file(tmp_path / "w.safetensors")
    assert np.array_equal(stored["a/kernel"].numpy(), kernel.transpose(3, 2, 0, 1))
    assert np.array_equal(stored["b/depthwise_kernel"].numpy(), depthwise.transpose(2, 3, 0, 1))
    read = mobilenet.read_weights(tmp_path / "w.safetensors")
    assert read["a/kernel"][1, 0, 0, 0] == 1 * 0.25 - 0.5


def test_open_nsfw_sees_what_its_authors_fed_it() -> None:
    found = open_nsfw.to_input(Image.new("RGB", (300, 200), (200, 100, 50)))
    assert found.shape == (1, 224, 224, 3)
    assert found.dtype == np.float32
    assert np.abs(found.mean((0, 1, 2)) - (50 - 104, 100 - 117, 200 - 123)).max() < 2  # blue first, JPEG between


def test_open_nsfw_reads_the_second_of_two_probabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    class Session:
        def __init__(self, path: str, *_: Any, **__: Any) -> None:
            assert Path(path).name == "model.onnx"

        def get_inputs(self) -> list[Any]:
            return [types.SimpleNamespace(name="input")]

        def run(self, _: Any, fed: dict[str, Any]) -> list[Any]:
            assert fed["input"].shape == (1, 224, 224, 3)
            return [np.array([[0.75, 0.25]], np.float32)]

    class Settings:
        intra_op_num_threads = 0

    monkeypatch.setitem(
        sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session, SessionOptions=Settings)
    )
    file = tmp_path / "model.onnx"
    file.write_bytes(b"weights")
    with pytest.raises(ValueError, match="expected 864bb37b"):
        open_nsfw.OpenNsfwCheck(CheckSettings(values={"path": str(file)}))
    from sdcore.files import sha256_file

    check = open_nsfw.OpenNsfwCheck(CheckSettings(values={"path": str(file), "sha256": sha256_file(file)}))
    assert check.score(Image.new("RGB", (64, 64))) == {"sexual": 0.25}


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A small safety checker as diffusers writes it, and the object itself."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers.models.clip.configuration_clip import CLIPConfig

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small}, projection_dim=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = StableDiffusionSafetyChecker(config).eval()
        made.concept_embeds.data = torch.randn(17, 16)
        made.special_care_embeds.data = torch.randn(3, 16)
        made.concept_embeds_weights.data = torch.rand(17) * 0.6
        made.special_care_embeds_weights.data = torch.rand(3) * 0.6
    folder = tmp_path_factory.mktemp("checker")
    made.save_pretrained(folder)
    return folder, made


@pytest.mark.filterwarnings("ignore")
def test_the_clip_checker_flags_what_diffusers_makes_black(checker: tuple[Path, Any]) -> None:
    from sdcore_safety.checks.clip_checker import to_input

    folder, theirs = checker
    check = ClipChecker(CheckSettings(values={"path": str(folder)}))
    chance = np.random.default_rng(0)
    flagged = []
    for _ in range(12):
        image = Image.fromarray(chance.integers(0, 256, (40, 56, 3), dtype=np.uint8)).resize((96, 64))
        _, found = theirs(clip_input=to_input(image, 32), images=np.ones((1, 8, 8, 3), np.float32))
        score = check.score(image)["sexual"]
        assert (score > 0.5) == found[0]
        flagged.append(found[0])
    theirs.concept_embeds_weights.data += 0.3 - 0.6 * flagged[0]  # the other way round too
    theirs.save_pretrained(folder)
    other = ClipChecker(CheckSettings(values={"path": str(folder)}))
    _, found = theirs(clip_input=to_input(image, 32), images=np.ones((1, 8, 8, 3), np.float32))
    assert (other.score(image)["sexual"] > 0.5) == found[0]
    assert other.weights_sha256 != check.weights_sha256


def test_nan_in_the_clip_checker_is_no_pass(checker: tuple[Path, Any]) -> None:
    from sdcore_safety import SafetyUnavailable
    from sdcore_safety.guard import checked_scores

    check = ClipChecker(CheckSettings(values={"path": str(checker[0])}))
    check._projection[:] = float("nan")
    with pytest.raises(SafetyUnavailable, match="nan"):
        checked_scores(check.name, check.score(Image.new("RGB", (64, 64))))
