"""A LoRA from the difference of two models: the nearest of a rank, by singular values (Eckart and Young, 1936)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import ModelError, RequestError

from .binding import NAMES
from .checkpoints import Checkpoint, open_checkpoint, part_of
from .reading import LayerWeights, LoRAWeights

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 16_384


@dataclass(frozen=True)
class Extracted:
    """What an extraction found.

    Attributes:
        lora: to be saved with `save_lora`.
        error: part of the difference of the layers in it that remains, 0 to 1 (Frobenius norm).
        errors: the same for each layer.
        outside: size of the difference that no LoRA of this kind holds (biases, norms, embeddings), as a part of all.
        left_out: names of the parameters that differ and are not in it.
    """

    lora: LoRAWeights
    error: float
    errors: dict[str, float]
    outside: float
    left_out: tuple[str, ...]


def low_rank(difference: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The nearest matrix of a rank.

    Args:
        difference: (out, in) or (out, in, height, width).
        rank: at most; less if the matrix is smaller.

    Returns:
        up (out, rank[, 1, 1]), down (rank, in[, height, width]), and the squared norm of what remains.
    """
    import torch

    matrix = difference.float().flatten(1)
    rank = min(rank, *matrix.shape)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    up, down = u[:, :rank] * root, root[:, None] * v[:rank]
    if difference.dim() == 4:
        up, down = up[:, :, None, None], down.reshape(rank, *difference.shape[1:])
    return up, down, float(s[rank:].double().square().sum())


def extract(
    base: str | Path,
    tuned: str | Path,
    *,
    rank: int = 16,
    conv_rank: int | None = None,
    components: tuple[str, ...] = ("unet", "text_encoder", "text_encoder_2"),
    least: float = 1e-6,
    progress: Callable[[int, int], object] | None = None,
) -> Extracted:
    """The difference of two models as a LoRA.

    Args:
        base, tuned: diffusers folders or .safetensors files in the original layout, also one of each.
        rank: of linear layers and convolutions of 1x1.
        conv_rank: of other convolutions; None for ``rank``, 0 to leave them out.
        components: which networks to look at.
        least: layers whose difference is smaller than this part of the weight are left out.
        progress: told (parameters done, parameters in all).

    Raises:
        RequestError: a rank is out of range, or nothing differs.
        ModelError: a model cannot be read, or they are not of one kind.
    """
    if not 1 <= rank <= LARGEST or not 0 <= (rank if conv_rank is None else conv_rank) <= LARGEST:
        raise RequestError(f"rank is {rank} and conv_rank {conv_rank}; they must be from 1 (conv_rank: 0) to {LARGEST}")
    first, second = open_checkpoint(base), open_checkpoint(tuned)
    if first.family != second.family:
        raise ModelError(
            f"{base} is {NAMES[first.family]} and {tuned} is {NAMES[second.family]}; they must be of one family"
        )
    layers: dict[tuple[str, str], LayerWeights] = {}
    errors: dict[str, float] = {}
    left_out = []
    inside = remains = outside = 0.0
    for (component, name), weight, difference in _differences(first, second, components, progress):
        size = float(difference.double().square().sum())
        module, _, last = name.rpartition(".")
        if not math.isfinite(size):
            raise ModelError(f"{tuned}: {component}.{name} or its counterpart holds NaN or infinity")
        if size <= (least**2) * float(weight.double().square().sum()):
            continue
        wanted = (
            rank
            if difference.dim() == 2 or difference.shape[2:] == (1, 1)
            else rank
            if conv_rank is None
            else conv_rank
        )
        if last != "weight" or difference.dim() not in (2, 4) or ".embeddings." in f".{name}" or not wanted:
            outside += size
            left_out.append(f"{component}.{name}")
            continue
        up, down, error = low_rank(difference, wanted)
        layers[component, module] = LayerWeights("lora", {"down": down, "up": up})
        errors[f"{component}.{module}"] = math.sqrt(error / size)
        inside, remains = inside + size, remains + error
    if not layers:
        also = f"; {left_out[0]} differs, which a LoRA does not hold" if left_out else ""
        raise RequestError(f"{base} and {tuned} do not differ in any layer that a LoRA can change{also}")
    metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
    lora = LoRAWeights(layers, metadata=metadata, family=NAMES[first.family])
    share = math.sqrt(outside / (inside + outside))
    return Extracted(lora, math.sqrt(remains / inside), errors, share, tuple(left_out))


def _differences(
    first: Checkpoint,
    second: Checkpoint,
    components: tuple[str, ...],
    progress: Callable[[int, int], object] | None,
) -> Iterator[tuple[tuple[str, str], Tensor, Tensor]]:
    """Every parameter of both: (component, name), the weight of the first, and the difference."""
    from safetensors import safe_open

    one, other = first.parameters(), second.parameters()
    common = [place for place in one if place in other and place[0] in components]
    with ExitStack() as stack:
        streams: dict[Path, Any] = {}

        def read(found: tuple[Path, str, Any]) -> Tensor:
            file, key, place = found
            if file not in streams:
                streams[file] = stack.enter_context(safe_open(file, framework="pt", device="cpu"))
            return part_of(streams[file].get_tensor(key), place).float()

        for done, place in enumerate(common, start=1):
            a, b = read(one[place]), read(other[place])
            if a.shape != b.shape:
                raise ModelError(
                    f"{place[0]}.{place[1]} is {tuple(a.shape)} in one model and {tuple(b.shape)} in the other"
                )
            yield place, a, b - a
            if progress is not None:
                progress(done, len(common))
