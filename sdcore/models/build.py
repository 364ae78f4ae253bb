"""Modules from a configuration and weights, without ever initialising them or copying a weight needlessly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sdcore.errors import ModelError

from .keys import rename
from .place import Place

if TYPE_CHECKING:
    import torch


def build(kind: str, config: Mapping[str, Any], weights: Mapping[str, Any], place: Place, what: str) -> Any:
    """A module in eval mode, without gradients.

    The module is made on the meta device and takes the tensors as its own: tensors that are already of the
    right type and device stay mapped to their file (a private mapping: writing to them leaves the file alone).

    Args:
        kind: "UNet2DConditionModel", "AutoencoderKL", "AutoencoderTiny", "CLIPTextModel" or
            "CLIPTextModelWithProjection".
        config: of the module, as its config.json has it.
        weights: its tensors by key.
        place: device and type.
        what: how messages name it, such as "folder/unet".

    Raises:
        ModelError: the kind is unknown, keys or shapes do not fit the configuration, or a weight is not finite.
    """
    return _build(partial(_empty, kind), kind, config, rename(kind, weights), place, what)


def build_network(
    factory: Callable[[Mapping[str, Any]], torch.nn.Module],
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    what: str,
) -> Any:
    """A network of a plugin's own, made as those of a model are: never initialised, checked, in eval mode.

    Args:
        factory: from the configuration to the module; called where modules get no memory (the meta device).
        config: what the factory is given.
        weights: tensors by the keys of the module's state dict; all of them, and no others.
        device, dtype: where its weights go and in which type, usually ``run.device`` and ``run.dtype``.
        what: how messages name it: the path.

    Raises:
        ModelError: keys or shapes do not fit the configuration, or a weight is not finite.
    """
    import torch

    owner = getattr(factory, "__self__", factory)  # ControlNetModel.from_config is for a ControlNetModel
    name = getattr(owner, "__name__", type(owner).__name__)
    return _build(factory, name, config, dict(weights), Place(torch.device(device), dtype), what)


def _build(
    factory: Callable[[Mapping[str, Any]], Any],
    kind: str,
    config: Mapping[str, Any],
    weights: dict[str, Any],
    place: Place,
    what: str,
) -> Any:
    import torch

    # A context of this thread only; accelerate's init_empty_weights would change every thread's modules.
    with torch.device("meta"):
        try:
            module = factory(config)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelError(f"{what}: its configuration is not that of a {kind} ({error})") from error
    fitted = _fit(module, weights, what)
    moved = {key: tensor.to(device=place.device, dtype=place.dtype) for key, tensor in fitted.items()}
    check_finite(moved, what)
    module.load_state_dict(moved, assign=True)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:  # CLIP's position ids: the only buffer that is not in a state dict
            owner = module.get_submodule(name.rpartition(".")[0])
            count = torch.arange(buffer.shape[-1], device=place.device).expand(buffer.shape)
            setattr(owner, name.rpartition(".")[2], count)
    return module.eval().requires_grad_(False)


def _empty(kind: str, config: Mapping[str, Any]) -> Any:
    settings = {key: value for key, value in config.items() if key not in ("_name_or_path", "dtype")}
    if kind == "UNet2DConditionModel":
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel.from_config(settings)
    if kind == "AutoencoderKL":
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        return AutoencoderKL.from_config(settings)
    if kind == "AutoencoderTiny":
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        return AutoencoderTiny.from_config(settings)
    if kind in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        from transformers.models.clip import configuration_clip, modeling_clip

        clip = configuration_clip.CLIPTextConfig.from_dict(settings)
        return getattr(modeling_clip, kind)(clip)
    raise ValueError(f"{kind!r} is none of the classes that sdcore runs")


def _fit(module: torch.nn.Module, weights: dict[str, Any], what: str) -> dict[str, Any]:
    wanted = module.state_dict()
    for key, empty in wanted.items():
        if key not in weights:
            raise ModelError(
                f"{what}: {key} is missing, of {len(wanted)} weights {len(wanted.keys() - weights.keys())}; "
                "the file is not complete, or its configuration belongs to another model"
            )
        given = tuple(weights[key].shape)
        if given != tuple(empty.shape):
            # The VAEs of old files have 1x1 convolutions where there are linear layers now.
            if given == (*empty.shape, 1, 1):
                weights[key] = weights[key].reshape(empty.shape)
                continue
            raise ModelError(
                f"{what}: {key} has the shape {given}, and the configuration asks for {tuple(empty.shape)}; "
                "weights and configuration belong to different models"
            )
    extra = sorted(weights.keys() - wanted.keys())
    if extra:
        raise ModelError(
            f"{what}: {extra[0]} (and {len(extra) - 1} more) has no place in the model that the configuration "
            "describes; weights and configuration belong to different models"
        )
    return weights


def check_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Refuse weights that hold NaN or infinity: one pass over the memory, one synchronisation.

    Raises:
        ModelError: naming the first such weight.
    """
    import torch

    # A sum is not finite if any element is not; as it can also overflow, what it points at is looked at again.
    sums = {key: tensor.sum(dtype=torch.float32) for key, tensor in weights.items()}
    good = torch.stack(list(sums.values())).isfinite().tolist()
    for key, fine in zip(sums, good, strict=True):
        if not fine and not bool(weights[key].float().isfinite().all()):
            raise ModelError(
                f"{what}: {key} holds NaN or infinity; the file was damaged, or merged or trained badly. "
                "Use another copy."
            )
