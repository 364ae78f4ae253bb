"""Encoded captions on disk: none that will not be read again, none of another encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .common import config, run


def rows(folder: Path) -> int:
    return len(list((folder / "out" / "cache" / "text").rglob("*.safetensors")))


@pytest.mark.parametrize(("captions", "files"), [({}, 1), ({"shuffle": True}, 0), ({"tag_dropout": 0.5}, 0)])
def test_captions_in_random_order_do_not_fill_the_disk(tmp_path: Path, captions: dict[str, Any], files: int) -> None:
    made = config(tmp_path, pictures={"cache": "disk"}, captions={"cache": True, "dropout": 0.0, **captions})
    run(made)
    assert rows(tmp_path) == files


def test_too_many_captions_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdcore_train import caches, train

    monkeypatch.setattr(caches, "DISK_LIMIT", 100_000)
    said: list[str] = []
    made = config(tmp_path, pictures={"cache": "disk"}, captions={"cache": True, "dropout": 0.0})
    train(made, say=said.append, progress=False)
    assert rows(tmp_path) == 0
    assert any("8 encoded captions would take 158 kB" in line for line in said), said


def test_other_words_make_another_cache(tmp_path: Path) -> None:
    """Of a model whose empty prompt is encoded otherwise, or whose arithmetic is, nothing is read.

    One caption more is always encoded, to know how large they are.
    """
    from sdcore_train import text

    from sdcore.models import load_model

    calls: list[int] = []
    real = text.Text.encode

    def counted(self: Any, captions: Any) -> Any:
        calls.append(len(captions))
        return real(self, captions)

    shared: dict[str, Any] = {
        "pictures": {"cache": "disk", "cache_folder": str(tmp_path / "cache")},
        "captions": {"cache": True, "dropout": 0.0},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text.Text, "encode", counted)
        for number, (fields, encoded) in enumerate([({}, 9), ({}, 1), ({"precision": "bf16"}, 9), ({}, 1)]):
            calls.clear()
            run(config(tmp_path, output=str(tmp_path / f"{number}"), **shared, **fields))
            assert sum(calls) == encoded, number
        calls.clear()
        made = config(tmp_path, output=str(tmp_path / "zeros"), **shared)
        model = load_model(made.model, device="cpu", dtype="float32")
        model.config["force_zeros_for_empty_prompt"] = True
        run(made, model=model)
        assert sum(calls) == 9
