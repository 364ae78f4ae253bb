"""The commands, as a user gives them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sdcore.cli import main
from sdcore.testing.tiny import tiny_folder
from sdcore.testing.tiny_lora import tiny_lora


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_lora(tmp_path / "a.safetensors", "sdxl", algorithm="locon", dtype="float16")
    assert main(["lora", "inspect", str(file)]) == 0
    text = capsys.readouterr().out
    for words in ("a model whose text is 192 wide", "kohya", "rank 4, alpha 2", "zwx style, cat", "float16", "locon (",
                  "U-Net: attention", "text encoder 2: feed-forward"):  # fmt: skip
        assert words in text
    assert main(["lora", "inspect", str(file), "--json", "--model", str(tiny_folder("sdxl"))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert found["unused"] == {}
    assert found["trigger_words"] == ["zwx style", "cat"]
    assert found["groups"]["U-Net: convolutions"]["ranks"] == [4]
    assert main(["lora", "inspect", str(file), "--model", str(tiny_folder("sd1"))]) == 0
    assert "is for" in capsys.readouterr().out


def test_inspect_a_folder_of_peft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", "inspect", str(tiny_lora(tmp_path / "a", "sd1", layout="peft", rank=6)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"]["U-Net: attention"] == {"layers": 56, "ranks": [6], "alphas": [3.0]}


def test_inspect_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"12")
    assert main(["lora", "inspect", str(tmp_path / "a.safetensors")]) == 1
    assert "not a safetensors file" in capsys.readouterr().err
    assert main(["lora"]) == 2


def test_merge_extract_convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = str(tiny_folder("sd1"))
    tiny_lora("a.safetensors", "sd1")
    tiny_lora("b.safetensors", "sd1", seed=1)
    assert main(["lora", "merge", base, "a.safetensors", "b.safetensors=-0.5", "-o", "merged"]) == 0
    assert "merged: 88 weights changed" in capsys.readouterr().out
    assert main(["lora", "merge", base, "a.safetensors=x", "-o", "other"]) == 2
    assert "is no number from -20 to 20" in capsys.readouterr().err
    assert (
        main(["lora", "extract", base, "merged", "--rank", "8", "-o", "found.safetensors", "--dtype", "float32"]) == 0
    )
    text = capsys.readouterr().out
    assert "88 layers of rank 8" in text
    assert "0.0% of the difference" in text
    assert main(["lora", "extract", base, "merged", "-o", "found.safetensors"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["lora", "convert", "found.safetensors", "--to", "diffusers", "-o", "d.safetensors"]) == 0
    assert "88 layers in the layout of diffusers" in capsys.readouterr().out
    assert any(key.endswith(".lora_A.weight") for key in load_file("d.safetensors"))


def test_generate_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_lora("style.safetensors", "sd1")
    request = ["generate", "a red cat", "--model", str(tiny_folder("sd1")), "--steps", "2", "--seed", "1"]
    request += ["--height", "32", "--width", "32"]
    for name, use in (
        ("plain", []),
        ("a", ["path=style.safetensors"]),
        ("b", ["path=style.safetensors,weight=[[0,1],[1,0]]"]),
    ):
        extra = [item for text in use for item in ("--use", f"lora:{text}")]
        assert main([*request, *extra, "-o", f"{name}.png"]) == 0
    assert len({Path(f"{name}.png").read_bytes() for name in ("plain", "a", "b")}) == 3
    assert main(["replay", "b.png", "--model", str(tiny_folder("sd1")), "--allow", str(tmp_path)]) == 0


def test_importing_it_imports_no_torch() -> None:
    code = "import sdcore_lora, sys; assert not {'torch', 'diffusers', 'safetensors'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
