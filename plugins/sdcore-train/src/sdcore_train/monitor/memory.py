"""How much memory a training takes: measured, and estimated part by part."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Shape = Sequence[int]


@dataclass(frozen=True)
class Need:
    """One row of the estimate: what for, how many bytes, and how they were found."""

    what: str
    size: int
    how: str


def peak_memory(device: torch.device) -> int:
    """The most memory that was taken so far, in bytes; 0 if the system does not tell.

    Of tensors on a CUDA device since its statistics were reset; otherwise of the whole process since its start.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        # Linux's ru_maxrss is inherited from the process that started this one.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def optimizer_size(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the tensors that an optimizer holds, once it has made a step; shared ones count once."""
    import torch

    seen: dict[int, int] = {}
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                seen[value.data_ptr()] = value.numel() * value.element_size()
    return sum(seen.values())


def state_size(name: str, shapes: Iterable[Shape]) -> int | None:
    """Bytes that an optimizer will hold for parameters of these shapes, before it has made a step.

    Args:
        name: as in the configuration.
        shapes: of the trained parameters, which are float32.

    Returns:
        None if the optimizer is not one of those known here.
    """
    each = {"adamw": _two_moments, "adamw8bit": _eight_bit, "adafactor": _factored, "prodigy": _prodigy, "sgd": _one}
    return None if name not in each else sum(each[name](shape) for shape in shapes)


def estimate(
    trained: Iterable[Shape],
    frozen: int,
    optimizer: str,
    *,
    frozen_size: int | None = None,
    ema: bool = False,
    state: int | None = None,
    peak: int | None = None,
) -> tuple[Need, ...]:
    """What a training needs memory for.

    Args:
        trained: shapes of the trained parameters, which are float32, as their gradients are.
        frozen: number of values that are not trained and lie on the device.
        optimizer: as in the configuration.
        frozen_size: bytes of the frozen values; None: four each.
        ema: whether an average of the weights is kept.
        peak: bytes at most on the device, measured over a step: what is left of it was for activations. None leaves
            their row out.
        state: bytes of the optimizer's state, measured (`optimizer_size`); None: by its name, and as of adamw if
            the name is not known.

    Returns:
        Rows, of which the last is their sum.
    """
    shapes = [tuple(shape) for shape in trained]
    count = sum(math.prod(shape) for shape in shapes)
    rows = [Need("trained weights", 4 * count, f"{count:,} in float32")]
    if frozen:
        size = 4 * frozen if frozen_size is None else frozen_size
        rows.append(Need("frozen weights", size, f"{frozen:,} of {size / frozen:.3g} bytes"))
    rows.append(Need("gradients", 4 * count, "one for each trained weight"))
    if state is not None:
        rows.append(Need("optimizer", state, f"{optimizer}, measured"))
    else:
        known = state_size(optimizer, shapes)
        how = optimizer if known is not None else f"{optimizer} is not known: as adamw"
        rows.append(Need("optimizer", 8 * count if known is None else known, how))
    if ema:
        rows.append(Need("average", 4 * count, "of the trained weights, in float32"))
    if peak is not None:
        left = peak - sum(row.size for row in rows)
        rows.append(Need("activations", max(0, left), "and all else: the rest of the measured peak"))
    return (*rows, Need("together", sum(row.size for row in rows), ""))


def readable(size: int) -> str:
    """Bytes for people: 512 B, 1.5 kB, 23.4 MB, 9.92 GB (of 1,000 each)."""
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}" if size < 1000 * limit else f"{size / limit:,.0f} {unit}"
    return f"{size} B"


def _one(shape: Shape) -> int:
    return 4 * math.prod(shape)


def _two_moments(shape: Shape) -> int:
    return 8 * math.prod(shape)


def _prodigy(shape: Shape) -> int:
    # Two moments, the running numerator, and the weights at the start (arXiv 2306.06101).
    return 16 * math.prod(shape)


def _eight_bit(shape: Shape) -> int:
    # Blocks of 256 values share a float32 scale; parameters below 4,096 values stay in 32 bits (arXiv 2110.02861).
    count = math.prod(shape)
    return 8 * count if count < 4096 else 2 * (count + 4 * math.ceil(count / 256))


def _factored(shape: Shape) -> int:
    # Row and column means of the last two dimensions (arXiv 1804.04235): little for matrices, much for 3x3 kernels.
    if len(shape) < 2:
        return 4 * math.prod(shape)
    return 4 * (math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1])
