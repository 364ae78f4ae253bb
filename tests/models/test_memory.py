"""Weights are mapped, not copied; files are never written to; hashes are remembered."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sdcore.errors import ModelError
from sdcore.models import hashes, load_model
from sdcore.testing.tiny import tiny_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("sd1"), tmp_path / "model"))


def test_importing_needs_no_torch() -> None:
    code = "import sys, sdcore.models; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_needs_no_pipeline() -> None:
    code = (
        "import sys; from sdcore.models import load_model; "
        f"load_model({str(tiny_folder('sd1'))!r}); "
        "found = [m for m in sys.modules if m.startswith('diffusers.pipelines.')]; print(found); sys.exit(bool(found))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_weights_of_the_right_type_are_mapped(folder: Path) -> None:
    model = load_model(folder)
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(folder / "unet" / "diffusion_pytorch_model.safetensors")):
            start, end = line.split()[0].split("-")
            ranges.append((int(start, 16), int(end, 16)))
    for name, tensor in model.unet.state_dict().items():
        assert any(start <= tensor.data_ptr() < end for start, end in ranges), name


def test_writing_to_weights_leaves_the_file_alone(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    first, second = load_model(folder), load_model(folder)
    with torch.no_grad():
        for parameter in first.unet.parameters():
            parameter.add_(1.0)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert not torch.equal(first.unet.conv_in.weight, second.unet.conv_in.weight)
    assert torch.equal(load_model(folder).unet.conv_in.weight, second.unet.conv_in.weight)


def test_global_generators_are_left_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load_model(folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_threads_can_load_at_once() -> None:
    """Making modules without weights in one thread does not reach modules made in another."""
    folders = [tiny_folder(family) for family in ("sd1", "sd2", "sdxl", "refiner")]
    loaded, plain = {}, []

    def load(folder: Path) -> None:
        loaded[folder] = load_model(folder)

    threads = [threading.Thread(target=load, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        plain.append(torch.nn.Linear(2, 2).weight.device.type)
    for thread in threads:
        thread.join()
    assert set(plain) <= {"cpu"}
    assert [loaded[folder].family for folder in folders] == ["sd1", "sd2", "sdxl", "refiner"]


def test_hashes_are_those_of_the_files(folder: Path) -> None:
    found = load_model(folder).hashes()
    assert set(found) == {"unet", "vae", "text_encoder"}
    for name, digest in found.items():
        assert digest == hashlib.sha256(next((folder / name).glob("*.safetensors")).read_bytes()).hexdigest()


def test_hashes_are_remembered_until_the_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    first = load_model(folder).hashes()
    assert hashes.cache_file().is_relative_to(os.environ["XDG_CACHE_HOME"])

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *a: pytest.fail("hashed again"))
        assert load_model(folder).hashes() == first

    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    assert hashes.of_file(file) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 3}', None])
def test_a_damaged_cache_is_no_problem(folder: Path, content: str | None) -> None:
    cache = hashes.cache_file()
    cache.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        cache.mkdir()
    else:
        cache.write_text(content)
    assert len(load_model(folder).hashes()) == 3
    if content is not None:
        assert len(json.loads(cache.read_text())) == 3


def test_a_file_that_is_gone(folder: Path) -> None:
    model = load_model(folder)
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match="cannot be hashed"):
        model.hashes()
