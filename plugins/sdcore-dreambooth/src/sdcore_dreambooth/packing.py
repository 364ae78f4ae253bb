"""The bytes of a safetensors file, the same whenever the content is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def packed(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None) -> bytes:
    """As ``safetensors.torch.save``, with the metadata in the order of its names: the library's order is random."""
    from safetensors.torch import save

    data: bytes = save(dict(tensors), dict(about) if about else None)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]
