"""The training plugins ``full`` and ``lora`` as the user put them in use himself: what is refused, what is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from sdcore_dreambooth import DreamBooth
from sdcore_train import ConfigError, Full, train

from .helpers import Quiet, config, needs_lora, pictures


def _subject(tmp_path: Path, **options: Any) -> DreamBooth:
    return DreamBooth(path=str(pictures(tmp_path / "cat")), token="zwx", class_name="cat", **options)


@needs_lora
@pytest.mark.parametrize(("mode", "other"), [("lora", "full"), ("lora", Full()), ("full", "lora:rank=4")])
def test_only_one_of_them_is_trained(tmp_path: Path, mode: str, other: Any) -> None:
    one = _subject(tmp_path, mode=mode)
    for use in ((one, other), (other, one)):
        with pytest.raises(ConfigError, match=f"mode is '{mode}', and .* take .* out of `use`, or set mode to"):
            train(config(tmp_path / "out", *use), say=Quiet(), progress=False)
    assert not (tmp_path / "out").exists()


@needs_lora
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_what_is_left_open_is_filled_in(tmp_path: Path, first: bool, text: bool) -> None:
    from sdcore_lora.training import TrainLoRA

    own = "lora:rank=4,file=mine" if text else TrainLoRA(rank=4, file="mine")
    one = _subject(tmp_path, text_encoder=True, prior_weight=0, lora={"alpha": 2.0, "rank": 4})
    use = (own, one) if first else (one, own)
    result = train(config(tmp_path / "out", *use), say=Quiet(), progress=False)
    [path] = [path for path in result.files if path.suffix == ".safetensors"]
    assert path.stem == "mine"
    with safe_open(path, "pt") as file:
        keys, about = list(file.keys()), file.metadata()
        assert {file.get_tensor(key).shape[0] for key in keys if key.endswith("lora_down.weight")} == {4}
    assert {key.split("_")[1] for key in keys} == {"unet", "te"}
    assert (about["ss_network_alpha"], about["modelspec.trigger_phrase"]) == ("2.0", "zwx cat")


@needs_lora
def test_what_the_user_gives_wins(tmp_path: Path) -> None:
    one = _subject(tmp_path, prior_weight=0)
    result = train(config(tmp_path / "out", one, "lora:text_encoder=true,trigger=mine"), say=Quiet(), progress=False)
    [path] = [path for path in result.files if path.suffix == ".safetensors"]
    with safe_open(path, "pt") as file:
        assert any(key.startswith("lora_te") for key in file.keys())  # noqa: SIM118
        assert file.metadata()["modelspec.trigger_phrase"] == "mine"


@needs_lora
@pytest.mark.parametrize(
    ("options", "own", "wrong"),
    [
        ({"lora": {"rank": 8}}, "lora:rank=4", "rank of lora is 4 in `use`, and 8"),
        ({"text_encoder": True}, "lora:text_encoder=false", "text_encoder of lora is False"),
        ({"text_encoder": True, "mode": "full"}, "full:text_encoder=false", "text_encoder of full is False"),
        ({"lora": {"rnk": 8}}, "lora:alpha=4", "lora: .*rnk"),
    ],
)
def test_two_values_of_one_option_are_refused(tmp_path: Path, options: Any, own: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        train(config(tmp_path / "out", _subject(tmp_path, **options), own), say=Quiet(), progress=False)
    assert not (tmp_path / "out").exists()
