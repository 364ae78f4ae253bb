"""LoRA files written in the layouts of kohya, diffusers and peft."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import OutputError

from .deltas import rank_of
from .reading import LayerWeights, LoRAWeights
from .writing import beside, write_weights

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = ("kohya", "diffusers", "peft")
_KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "dora": "dora_scale"}
_PEFT = {
    "down": "lora_A.weight",
    "up": "lora_B.weight",
    "dora": "lora_magnitude_vector",
    "up_bias": "lora_B.bias",
    "embedding_down": "lora_embedding_A",
    "embedding_up": "lora_embedding_B",
}
_TYPES = {"lora": "LORA", "embedding": "LORA", "loha": "LOHA", "lokr": "LOKR"}


def save_lora(
    lora: LoRAWeights, path: str | Path, *, layout: str = "kohya", dtype: str | None = None, overwrite: bool = False
) -> Path:
    """Write a LoRA.

    Args:
        lora: from `read_lora` or `extract`.
        path: the file; for peft the folder, with a folder for each component if there are several.
        layout: "kohya" (holds everything but changes of embeddings), "diffusers" (LoRA and DoRA) or "peft" (LoRA,
            DoRA, LoHa, LoKr; one kind for each component).
        dtype: of the tensors, such as "float16"; None keeps theirs.
        overwrite: replace a file that is there.

    Raises:
        OutputError: the layout cannot hold what the LoRA is, or the file cannot be written.
    """
    if layout not in LAYOUTS:
        raise OutputError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    if lora.words and layout != "kohya":
        raise OutputError(f"the layout of {layout} has no place for new words ({', '.join(lora.words)}); use kohya")
    with beside(path, overwrite=overwrite) as temporary:
        if layout == "peft":
            _write_peft(lora, temporary, dtype)
        else:
            weights = _kohya(lora) if layout == "kohya" else _diffusers(lora)
            _write(dict(weights), temporary, dtype, lora.metadata if layout == "kohya" else {})
    return Path(path)


def _write(weights: Mapping[str, Tensor], path: Path, dtype: str | None, metadata: Mapping[str, str]) -> None:
    import torch

    kind = getattr(torch, dtype) if dtype else None
    own = {key: (value if kind is None else value.to(kind)).contiguous().clone() for key, value in weights.items()}
    write_weights(own, path, metadata)


def _kohya(lora: LoRAWeights) -> Iterator[tuple[str, Tensor]]:
    import torch

    two = any(component == "text_encoder_2" for component, _ in lora.layers) or lora.family.startswith("SDXL")
    prefixes = {"unet": "unet", "text_encoder": "te1" if two else "te", "text_encoder_2": "te2"}
    for (component, module), layer in lora.layers.items():
        if layer.algorithm == "embedding" or "up_bias" in layer.parts:
            raise OutputError(f"the layout of kohya cannot hold the change of {component}.{module}; use peft")
        name = f"lora_{prefixes[component]}_{_dotted(component, module).replace('.', '_')}"
        rank = rank_of({part: tuple(value.shape) for part, value in layer.parts.items()})
        whole = layer.algorithm == "lokr" and {"lokr_w1", "lokr_w2"} <= layer.parts.keys()
        if whole or rank is None:  # its readers ignore alpha here
            layer = _folded(layer)
            rank = None
        for part, value in layer.parts.items():
            dora = part == "dora"
            yield f"{name}.{_KOHYA.get(part, part)}", _column(value, layer) if dora else value
        if rank is not None:
            yield f"{name}.alpha", torch.tensor(layer.scale * rank)
    for word, vectors in lora.words.items():
        for kind, value in vectors.items():
            yield f"bundle_emb.{word}.{kind or 'string_to_param.*'}", value


def _diffusers(lora: LoRAWeights) -> Iterator[tuple[str, Tensor]]:
    for (component, module), layer in lora.layers.items():
        if layer.algorithm != "lora":
            raise OutputError(
                f"the layout of diffusers cannot hold {layer.algorithm} ({component}.{module}); use kohya or peft"
            )
        for part, value in _plain(_folded(layer)).parts.items():
            # transformers 5 finds the magnitudes of text encoders by the longer name only; all read it.
            longer = ".weight" if part == "dora" and component != "unet" else ""
            yield (
                f"{component}.{_dotted(component, module)}.{_PEFT[part]}{longer}",
                _row(value, layer) if part == "dora" else value,
            )


def _write_peft(lora: LoRAWeights, folder: Path, dtype: str | None) -> None:
    components = list(dict.fromkeys(component for component, _ in lora.layers))
    for component in components:
        layers = {module: layer for (owner, module), layer in lora.layers.items() if owner == component}
        kinds = {_TYPES.get(layer.algorithm, layer.algorithm) for layer in layers.values()}
        if len(kinds) > 1 or not kinds <= set(_TYPES.values()):
            raise OutputError(
                f"the layout of peft cannot hold {' and '.join(sorted(kinds))} of one {component}; use kohya"
            )
        inside = folder if len(components) == 1 else folder / component
        inside.mkdir(parents=True)
        # As transformers 5.6 and later name the modules of their classes.
        top = "text_model." if component == "text_encoder_2" else ""
        weights: dict[str, Tensor] = {}
        ranks: dict[str, int] = {}
        for module, layer in layers.items():
            layer = _plain(layer)
            ranks[top + module] = rank_of({part: tuple(value.shape) for part, value in layer.parts.items()}) or 1
            for part, value in layer.parts.items():
                key = f"base_model.model.{top}{module}.{_PEFT.get(part, part)}"
                weights[key] = _row(value, layer) if part == "dora" else value
        alphas = {top + module: layer.scale * ranks[top + module] for module, layer in layers.items()}
        _write(weights, inside / "adapter_model.safetensors", dtype, {})
        config = _peft_config(kinds.pop(), ranks, alphas, any("dora" in layer.parts for layer in layers.values()))
        (inside / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _peft_config(kind: str, ranks: Mapping[str, int], alphas: Mapping[str, float], dora: bool) -> dict[str, Any]:
    rank, alpha = max(ranks.values()), max(alphas.values())
    config: dict[str, Any] = {
        "peft_type": kind,
        "r": rank,
        "lora_alpha" if kind == "LORA" else "alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
    }
    return config | ({"use_dora": dora} if kind == "LORA" else {})


def _dotted(component: str, module: str) -> str:
    return module if component == "unet" or module == "text_projection" else f"text_model.{module}"


def _folded(layer: LayerWeights) -> LayerWeights:
    """The same with scale 1: it is in one of the factors."""
    if layer.scale == 1.0:
        return layer
    factor = next(name for name in ("up", "lokr_w1", "lokr_w1_a", "hada_w1_a", "embedding_up") if name in layer.parts)
    value = (layer.parts[factor].float() * layer.scale).to(layer.parts[factor].dtype)
    return replace(layer, parts={**layer.parts, factor: value}, scale=1.0)


def _plain(layer: LayerWeights) -> LayerWeights:
    """LoCon's core multiplied into its down part, and the scalar into the up part, for readers without them."""
    import torch

    parts = dict(layer.parts)
    if "mid" in parts and layer.algorithm == "lora":
        middle, down = parts.pop("mid"), parts["down"]
        parts["down"] = torch.einsum("pqkl,qi->pikl", middle.float(), down.float().flatten(1)).to(down.dtype)
    if "scalar" in parts and layer.algorithm == "lora":
        parts["up"] = (parts["up"].float() * parts.pop("scalar").float()).to(parts["up"].dtype)
    return replace(layer, parts=parts)


def _of_inputs(magnitude: Tensor, layer: LayerWeights) -> bool:
    """Whether a linear layer's magnitude has one number for each input: (1, inputs)."""
    down, up = layer.parts.get("down"), layer.parts.get("up")
    linear = down is not None and down.dim() == 2 and up is not None
    return linear and magnitude.dim() == 2 and magnitude.shape[0] == 1 < up.shape[0]  # type: ignore[union-attr]


def _column(magnitude: Tensor, layer: LayerWeights) -> Tensor:
    """DoRA's magnitude as kohya's files have it, one number for each output."""
    if magnitude.dim() > 1 and (magnitude.shape[0] > 1 or _of_inputs(magnitude, layer)):
        return magnitude
    down = layer.parts.get("mid", layer.parts.get("down"))
    return magnitude.reshape(-1, *[1] * ((down.dim() if down is not None else 2) - 1))


def _row(magnitude: Tensor, layer: LayerWeights) -> Tensor:
    """DoRA's magnitude as peft has it."""
    up = layer.parts.get("up")
    if up is not None and (magnitude.numel() != up.shape[0] or _of_inputs(magnitude, layer)):
        raise OutputError(
            "this DoRA has one magnitude for each input (early LyCORIS), which only kohya's layout can hold"
        )
    down = layer.parts.get("down")
    return magnitude.reshape(1, -1, 1, 1) if down is not None and down.dim() == 4 else magnitude.reshape(-1)
