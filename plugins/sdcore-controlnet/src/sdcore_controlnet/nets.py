"""Loaded control nets, kept between runs in a small cache."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcore.models import build_network, check_finite, read_weights

from . import layouts, text_memory
from .describe import Description

if TYPE_CHECKING:
    import torch

MOST = 3


@dataclass(frozen=True)
class Net:
    """A net where the run is: the module, and whether its attention takes ``kept`` (see :mod:`.text_memory`)."""

    module: Any
    remembers: bool


class NetCache:
    """Nets by where they came from, device and type. Bounded: the longest unused go first.

    Nets from files are told apart by resolved path, size and time of change, modules in memory by identity and
    the versions of their weights. A module that a caller gave is used as it is where device and type are those of
    the run, else as a copy; it is never changed.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._nets: OrderedDict[Any, tuple[Net, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nets)

    def get(self, description: Description, device: torch.device, dtype: torch.dtype, at_once: int = 1) -> Net:
        """The net, loaded if it is not there.

        Args:
            description: of it.
            device, dtype: of the run.
            at_once: how many nets the run uses; so many are kept at least.

        Raises:
            ModelError: weights and configuration do not fit, or a weight is not finite.
        """
        key = (_identity(description), str(device), dtype)
        if key in self._nets:
            self._nets.move_to_end(key)
            return self._nets[key][0]
        net = _load(description, device, dtype)
        while len(self._nets) >= max(self._most, at_once):
            self._nets.popitem(last=False)
        # The module of the caller is kept with it: the id in the key stays taken.
        self._nets[key] = net, description.module
        return net


def _identity(description: Description) -> Any:
    if description.module is None:
        stats = [(path.resolve(), path.stat()) for path in description.files]
        return tuple((str(path), found.st_size, found.st_mtime_ns) for path, found in stats)
    return id(description.module), tuple(weight._version for weight in description.module.parameters())


def load_module(description: Description, device: torch.device, dtype: torch.dtype) -> Any:
    """The module of a net in files, as diffusers has it, in eval mode.

    Raises:
        ModelError: weights and configuration do not fit, or a weight is not finite.
    """
    from diffusers.models.adapter import T2IAdapter
    from diffusers.models.controlnets.controlnet import ControlNetModel

    weights: dict[str, Any] = {}
    for path in description.files:
        weights |= read_weights(path, allow_pickle=True)[0]  # that pickles are allowed was found out before
    if description.names is not None:
        weights = layouts.rename(weights, description.names)
    if "adapter.unshuffle" in weights:
        del weights["adapter.unshuffle"]
    kind: Any = ControlNetModel if description.kind == "ControlNet" else T2IAdapter
    config = {key: value for key, value in description.config.items() if not key.startswith("_")}
    return build_network(kind.from_config, config, weights, device=device, dtype=dtype, what=description.what)


def _load(description: Description, device: torch.device, dtype: torch.dtype) -> Net:
    if description.module is not None:
        return _given(description, device, dtype)
    module = load_module(description, device, dtype)
    return Net(module, description.kind == "ControlNet" and text_memory.remember(module))


def _given(description: Description, device: torch.device, dtype: torch.dtype) -> Net:
    module = description.module
    check_finite(dict(module.named_parameters()), description.what)
    weights = list(module.parameters())
    if all(weight.device == device and weight.dtype == dtype for weight in weights):
        return Net(module, False)
    return Net(copy.deepcopy(module).to(device=device, dtype=dtype).eval().requires_grad_(False), False)
