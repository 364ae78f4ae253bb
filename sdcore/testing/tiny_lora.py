"""Small random LoRA files with a visible effect, in the layouts and algorithms that users have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tiny import FAMILIES, tiny_folder, write_json

if TYPE_CHECKING:
    from torch import Generator, Tensor

LAYOUTS = ("kohya", "diffusers", "peft")
ALGORITHMS = ("lora", "locon", "loha", "lokr", "dora")
TARGETS: Mapping[str, tuple[str, ...]] = {
    "attention": (".to_q", ".to_k", ".to_v", ".to_out.0"),
    "feed-forward": (".ff.net.0.proj", ".ff.net.2"),
    "projections": (".proj_in", ".proj_out"),
    "convolutions": (".conv1", ".conv2", ".conv_shortcut", "samplers.0.conv"),
    "text": (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2"),
}
"""Groups of modules, and how their names end. "text" is in the text encoders, the others are in the U-Net."""

Weights = dict[str, "Tensor"]
_DEFAULT = ("attention", "feed-forward", "text")


def tiny_lora(
    path: str | Path,
    model: Any = "sd1",
    *,
    layout: str = "kohya",
    rank: int = 4,
    seed: int = 0,
    targets: Iterable[str] | None = None,
    algorithm: str = "lora",
    scale: float = 0.3,
    dtype: str = "float32",
) -> Path:
    """Write a random LoRA that fits a model and changes what it draws.

    Args:
        path: the file; for ``layout="peft"`` the folder.
        model: a family ("sd1": the model of `tiny_folder`), a diffusers folder, an engine, a pipeline, or anything
            with ``components`` or ``model``.
        layout: "kohya" (``lora_unet_...``, alpha of half the rank), "diffusers" (``unet....lora_A.weight``, no alpha)
            or "peft" (``adapter_config.json`` and ``base_model.model....``; of the U-Net only).
        rank: of every matrix.
        seed: of the values. The global generators are left alone.
        targets: groups of `TARGETS`; None is attention, feed-forward and text, and for "locon" convolutions too.
        algorithm: "lora", "locon" (with convolutions), "loha", "lokr" or "dora". The last three have no diffusers
            layout but for "dora".
        scale: size of each change, as a part of the size (Frobenius norm) of the weight that it changes.
        dtype: of the tensors, such as "float16".

    Returns:
        The path.

    Raises:
        ValueError: a name that is not known, a layout that does not hold the algorithm, or nothing to change.
    """
    import torch
    from safetensors.torch import save_file

    _check("layout", layout, LAYOUTS)
    _check("algorithm", algorithm, ALGORITHMS)
    if layout == "diffusers" and algorithm in ("loha", "lokr"):
        raise ValueError(f"the layout of diffusers has no {algorithm}; use kohya or peft")
    wanted = tuple(targets) if targets is not None else (*_DEFAULT, *(["convolutions"] if algorithm == "locon" else []))
    for name in wanted:
        _check("target", name, tuple(TARGETS))
    path, generator = Path(path), torch.Generator().manual_seed(seed)
    alpha = rank if layout == "diffusers" else rank / 2
    found: dict[str, Tensor] = {}
    components = _components(model)
    for component, weights in components.items():
        if component != "unet" and layout == "peft":
            continue
        for module, weight in _chosen(weights, wanted, text=component != "unet"):
            parts = _random(algorithm, weight, rank, alpha / rank, scale, generator, layout)
            if layout == "kohya":
                parts["alpha"] = torch.tensor(float(alpha))
            for part, value in parts.items():
                name = _key(layout, component, module, part, lone="text_encoder_2" not in components)
                found[name] = value.to(getattr(torch, dtype)).contiguous()
    if not found:
        raise ValueError(f"the model has no modules of the groups {', '.join(wanted)}")
    if layout == "peft":
        _write_peft_config(path, algorithm, rank, alpha, found)
        path.mkdir(parents=True, exist_ok=True)
        save_file(found, path / "adapter_model.safetensors", metadata={"format": "pt"})
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"}
    if layout == "kohya":
        tags = json.dumps({"10_zwx": {"zwx style": 10, "cat": 4}})
        metadata |= {"ss_network_dim": str(rank), "ss_network_alpha": str(alpha), "ss_tag_frequency": tags}
    save_file(found, path, metadata=metadata)
    return path


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; expected one of {', '.join(known)}")


# -- the model ------------------------------------------------------------------------------------------------


def _components(model: Any) -> dict[str, Weights]:
    """Weights of the U-Net and the text encoders, by component and name; CLIP's names without "text_model."."""
    if isinstance(model, str) and model in FAMILIES:
        model = tiny_folder(model)
    if isinstance(model, (str, Path)):
        return _from_folder(Path(model))
    parts = getattr(getattr(model, "model", model), "components", None)
    if not isinstance(parts, Mapping):
        raise ValueError(f"model is a {type(model).__name__}; give a family, a folder, an engine or a pipeline")
    return {
        name: {key.removeprefix("text_model."): value.detach().cpu() for key, value in parts[name].state_dict().items()}
        for name in ("unet", "text_encoder", "text_encoder_2")
        if parts.get(name) is not None
    }


def _from_folder(folder: Path) -> dict[str, Weights]:
    from safetensors.torch import load_file

    found = {}
    for name in ("unet", "text_encoder", "text_encoder_2"):
        files = sorted((folder / name).glob("*.safetensors"))
        if files:
            loaded = {key: value for file in files for key, value in load_file(file).items()}
            found[name] = {key.removeprefix("text_model."): value for key, value in loaded.items()}
    if not found:
        raise ValueError(f"{folder} is neither a family ({', '.join(FAMILIES)}) nor a folder with weights")
    return found


def _chosen(weights: Weights, wanted: Iterable[str], text: bool) -> Iterable[tuple[str, Tensor]]:
    endings = tuple(end for name in wanted if (name == "text") == text for end in TARGETS[name])
    for key, weight in weights.items():
        module = key.removesuffix(".weight")
        if endings and module != key and weight.dim() in (2, 4) and module.endswith(endings):
            yield module, weight


# -- the change of one weight ---------------------------------------------------------------------------------


def _random(
    algorithm: str, weight: Tensor, rank: int, factor: float, scale: float, generator: Generator, layout: str
) -> Weights:
    """Random parts whose change, multiplied by ``factor`` (alpha / rank), is ``scale`` times as large as the weight."""
    weight = weight.float()
    makers: dict[str, Callable[..., tuple[Weights, str, Tensor]]] = {"loha": _loha, "lokr": _lokr}
    parts, adjusted, delta = makers.get(algorithm, _lora)(tuple(weight.shape), rank, generator)
    # Of LoKr whose factors are both whole, the layout of kohya ignores alpha.
    whole = layout == "kohya" and "lokr_w1" in parts and "lokr_w2" in parts
    size = float(delta.norm()) * (1.0 if whole else factor)
    parts[adjusted] = parts[adjusted] * (scale * float(weight.norm()) / size)
    if algorithm == "dora":
        delta = delta * (scale * float(weight.norm()) / size)
        changed = (weight + factor * delta).flatten(1).norm(dim=1)
        spread = _normal((len(changed),), generator)
        column = (-1, *[1] * (weight.dim() - 1)) if layout == "kohya" else (1, -1, 1, 1) if weight.dim() == 4 else (-1,)
        parts["dora"] = (changed * (1 + 0.2 * spread)).reshape(column)
    return parts


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    import torch

    return torch.randn(shape, generator=generator)


def _lora(shape: tuple[int, ...], rank: int, generator: Generator) -> tuple[Weights, str, Tensor]:
    down = _normal((rank, *shape[1:]), generator)
    up = _normal((shape[0], rank, *[1] * (len(shape) - 2)), generator)
    return {"down": down, "up": up}, "up", (up.flatten(1) @ down.flatten(1)).reshape(shape)


def _loha(shape: tuple[int, ...], rank: int, generator: Generator) -> tuple[Weights, str, Tensor]:
    inside = math.prod(shape[1:])
    parts = {}
    for number in "12":
        parts[f"hada_w{number}_a"] = _normal((shape[0], rank), generator)
        parts[f"hada_w{number}_b"] = _normal((rank, inside), generator)
    delta = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    return parts, "hada_w1_a", delta.reshape(shape)


def _lokr(shape: tuple[int, ...], rank: int, generator: Generator) -> tuple[Weights, str, Tensor]:
    import torch

    (out_1, out_2), (in_1, in_2) = _factors(shape[0]), _factors(shape[1])
    first = _normal((out_1, in_1), generator)
    parts = {"lokr_w1": first}
    if rank >= max(out_2, in_2) / 2:  # as LyCORIS and peft decide it
        parts["lokr_w2"] = second = _normal((out_2, in_2, *shape[2:]), generator)
    else:
        parts["lokr_w2_a"] = _normal((out_2, rank), generator)
        parts["lokr_w2_b"] = _normal((rank, in_2 * math.prod(shape[2:])), generator)
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return parts, "lokr_w1", torch.kron(first, second.flatten(1)).reshape(shape)


def _factors(number: int) -> tuple[int, int]:
    """The two factors of a number that are nearest to each other, the smaller first."""
    small = next(factor for factor in range(math.isqrt(number), 0, -1) if number % factor == 0)
    return small, number // small


# -- names ----------------------------------------------------------------------------------------------------

_KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "dora": "dora_scale"}
_PEFT = {"down": "lora_A.weight", "up": "lora_B.weight", "dora": "lora_magnitude_vector"}


def _key(layout: str, component: str, module: str, part: str, lone: bool) -> str:
    name = module if component == "unet" else "text_model." + module
    if layout == "kohya":
        prefixes = {"unet": "unet", "text_encoder": "te" if lone else "te1", "text_encoder_2": "te2"}
        return f"lora_{prefixes[component]}_{name.replace('.', '_')}.{_KOHYA.get(part, part)}"
    top = component if layout == "diffusers" else "base_model.model"
    return f"{top}.{name}.{_PEFT.get(part, part)}"


def _write_peft_config(folder: Path, algorithm: str, rank: int, alpha: float, found: Weights) -> None:
    kind = {"loha": "LOHA", "lokr": "LOKR"}.get(algorithm, "LORA")
    known = (*_PEFT.values(), "hada_", "lokr_")
    modules = {key.removeprefix("base_model.model.") for key in found}
    modules = {name[: min(name.find("." + end) for end in known if "." + end in name)] for name in modules}
    config: dict[str, Any] = {"peft_type": kind, "r": rank, "target_modules": sorted(modules)}
    if kind == "LORA":
        config |= {"lora_alpha": alpha, "use_dora": algorithm == "dora", "bias": "none"}
    else:
        config["alpha"] = alpha
    write_json(folder / "adapter_config.json", config)
