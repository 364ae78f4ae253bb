"""Finding out what the U-Net of a single file predicts: the noise ("epsilon") or the velocity ("v_prediction")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sdcore.errors import ModelError

TYPES = ("epsilon", "v_prediction", "sample")
_SPELLINGS = {"v": "v_prediction", "v-prediction": "v_prediction", "eps": "epsilon"}


def check(prediction_type: str) -> str:
    """The spelling of diffusers for a prediction type.

    Raises:
        ModelError: it is none.
    """
    found = _SPELLINGS.get(prediction_type, prediction_type)
    if found not in TYPES:
        raise ModelError(f"prediction_type is {prediction_type!r}; expected one of {', '.join(TYPES)}")
    return found


def from_markers(keys: Iterable[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a file says about it: changes of the scheduler's configuration, empty if it says nothing.

    Trainers mark v-prediction with an empty tensor "v_pred", and a noise schedule that ends in pure noise with
    "ztsnr"; the metadata key is that of the ModelSpec standard.
    """
    keys = set(keys)
    stated = metadata.get("modelspec.prediction_type", "").lower()
    changes: dict[str, Any] = {}
    if "v_pred" in keys:
        changes["prediction_type"] = "v_prediction"
    elif _SPELLINGS.get(stated, stated) in TYPES:
        changes["prediction_type"] = _SPELLINGS.get(stated, stated)
    if "ztsnr" in keys:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changes


def probe(unet: Any) -> str:
    """What the U-Net of an SD2 checkpoint predicts, found by asking it.

    At the last timestep the input is nearly all noise, so that a network of noise returns about its input, and
    one of velocity about minus the picture in it: for a constant input the two are more than one apart.
    """
    import torch

    parameter = next(unet.parameters())
    kind = {"device": parameter.device, "dtype": parameter.dtype}
    noisy = torch.full((1, unet.config.in_channels, 8, 8), 0.5, **kind)
    context = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, **kind)
    with torch.inference_mode():
        out = unet(noisy, 999, encoder_hidden_states=context).sample
    return "v_prediction" if float((out - noisy).float().mean()) < -1.0 else "epsilon"
