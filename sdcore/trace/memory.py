"""Memory as far as it can honestly be told: what torch has allocated on a GPU, else what the process has resident."""

from __future__ import annotations

import os
from typing import Any


class Memory:
    """The resident memory of this process. It has no peak: the system tells only that of the process's whole life.

    Attributes:
        about: what the numbers are, for people.
        has_peak: whether the most within a stretch can be told.
    """

    about = (
        "memory is how much more resident memory the process had after it than before (CPU; allocators keep what is "
        "freed, so it may be 0 or negative); peaks are not known"
    )
    has_peak = False

    def now(self) -> int | None:
        """Bytes, or None where the system does not tell."""
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    def wait(self) -> None:
        """Wait until the device has done what was asked of it, so that times are true."""

    def take_peak(self) -> int:
        """The most since this was last asked, in bytes."""
        return 0


class CudaMemory(Memory):
    """What torch has allocated on one GPU. The device's peak counter is reset while a trace is made."""

    about = (
        "memory is how much more torch had allocated on the GPU after it than before, peak the most while it ran; the "
        "GPU is waited for before and after each stage"
    )
    has_peak = True

    def __init__(self, device: Any) -> None:
        self._device = device

    def now(self) -> int | None:
        """Bytes."""
        import torch

        return int(torch.cuda.memory_allocated(self._device))

    def wait(self) -> None:
        """Synchronise."""
        import torch

        torch.cuda.synchronize(self._device)

    def take_peak(self) -> int:
        """The most since this was last asked, in bytes."""
        import torch

        peak = int(torch.cuda.max_memory_allocated(self._device))
        torch.cuda.reset_peak_memory_stats(self._device)
        return peak


def memory_of(device: Any) -> Memory:
    """What measures memory for a model on this device."""
    return CudaMemory(device) if getattr(device, "type", "cpu") == "cuda" else Memory()
