"""The state of any optimizer as tensors for a safetensors file and values for a JSON file, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdcore import RequestError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MARK = "$"


def optimizer_to_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take an optimizer's state apart.

    Args:
        optimizer: any; its ``state_dict`` is read.
        parameters: all that it updates, by name.

    Returns:
        Tensors for ``safetensors.torch.save_file``, called ``"parameter name/key"``, and values for a JSON file.
        The tensors are the optimizer's own where they can be written as they are: write them before its next step.

    Raises:
        RequestError: it updates a parameter that has no name here, or holds something that is no number, text,
            tensor or collection of them.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    saved = optimizer.state_dict()
    packer = _Packer()
    groups: list[dict[str, Any]] = []
    states: dict[str, Any] = {}
    for group, saved_group in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        unknown = sum(id(parameter) not in names for parameter in group["params"])
        if unknown:
            raise RequestError(f"the optimizer has {unknown} parameters without a name: its state cannot be saved")
        members = [names[id(parameter)] for parameter in group["params"]]
        label = str(group.get("name", len(groups)))
        settings = {key: value for key, value in saved_group.items() if key != "params"}
        groups.append({"params": members, "settings": packer.pack(settings, f"group {label}")})
        for name, index in zip(members, saved_group["params"], strict=True):
            if index in saved["state"]:
                states[name] = packer.pack(saved["state"][index], name)
    return packer.tensors, {"groups": groups, "state": states}


def optimizer_from_tensors(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
) -> None:
    """Put into an optimizer what `optimizer_to_tensors` took from one of the same kind; it then continues bit for bit.

    Args:
        optimizer: made as the other was. Its settings, such as the learning rate, are replaced too.
        parameters: all that it updates, by name.
        tensors, values: what the other function gave, perhaps by way of files. The tensors become the optimizer's.

    Raises:
        RequestError: they are of other parameters or of another division into groups. Nothing was changed.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    current = optimizer.state_dict()["param_groups"]
    groups, state, exact = [], {}, {}
    _same_groups([[names.get(id(p), "?") for p in group["params"]] for group in optimizer.param_groups], values)
    unpacker = _Unpacker(tensors)
    for group, now, saved in zip(optimizer.param_groups, current, values["groups"], strict=True):
        groups.append({**unpacker.unpack(saved["settings"]), "params": now["params"]})
        for parameter, index in zip(group["params"], now["params"], strict=True):
            packed = values["state"].get(names[id(parameter)])
            if packed is not None:
                state[index] = exact[parameter] = unpacker.unpack(packed)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    _restore_types(optimizer, exact)


def _restore_types(optimizer: torch.optim.Optimizer, exact: Mapping[torch.nn.Parameter, Mapping[str, Any]]) -> None:
    """Undo that torch casts all state to the parameter's type when it is loaded."""
    import torch

    for parameter, state in exact.items():
        loaded = optimizer.state[parameter]
        for key, value in state.items():
            now = loaded.get(key)
            if isinstance(now, torch.Tensor) and isinstance(value, torch.Tensor) and now.dtype != value.dtype:
                loaded[key] = value.to(now.device)


def _same_groups(current: list[list[str]], values: Mapping[str, Any]) -> None:
    saved = [group["params"] for group in values["groups"]]
    if len(saved) != len(current):
        raise RequestError(
            f"the saved optimizer has {len(saved)} groups of parameters and this one {len(current)}: "
            "go on with the settings that it was started with"
        )
    for old, new in zip(saved, current, strict=True):
        odd = sorted(set(old) ^ set(new))
        if odd:
            raise RequestError(
                f"the saved optimizer trained other parameters; they differ in {', '.join(map(repr, odd[:3]))}"
                f"{f' and {len(odd) - 3} more' if len(odd) > 3 else ''}: go on with what was trained before"
            )


class _Packer:
    """Replaces tensors by their names, and what JSON does not know by marked objects."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[tuple[Any, ...], str] = {}

    def pack(self, value: Any, path: str) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach(), path)
        if isinstance(value, float) and not math.isfinite(value):
            return {_MARK: "float", "value": repr(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [self.pack(item, f"{path}/{index}") for index, item in enumerate(value)]
        if isinstance(value, tuple):
            return {_MARK: "tuple", "value": self.pack(list(value), path)}
        if isinstance(value, dict):
            keys = [self.pack(key, path) for key in value]
            items = [self.pack(item, f"{path}/{key}") for key, item in value.items()]
            if all(isinstance(key, str) and key != _MARK for key in keys):
                return dict(zip(keys, items, strict=True))
            return {_MARK: "dict", "value": [list(pair) for pair in zip(keys, items, strict=True)]}
        raise RequestError(
            f"the optimizer's state has a {type(value).__name__} at {path!r}, which cannot be saved: "
            "take another optimizer"
        )

    def _tensor(self, value: Tensor, path: str) -> dict[str, Any]:
        if hasattr(value, "to_local"):  # in shards, which have no memory of their own: the caller makes it whole
            self.tensors[path] = value
            return {_MARK: "tensor", "name": path}
        # Some optimizers share one table among all parameters; it is written once.
        where = (value.untyped_storage().data_ptr(), value.storage_offset(), value.dtype, value.shape, value.stride())
        if value.numel() and where in self._seen:
            return {_MARK: "tensor", "name": self._seen[where]}
        self._seen[where] = path
        packed: dict[str, Any] = {_MARK: "tensor", "name": path}
        if not value.is_contiguous():
            # Fused steps walk through a parameter and its moments as they lie in memory: the order has to stay.
            packed["stride"] = list(value.stride())
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        self.tensors[path] = value.contiguous() if whole else value.clone(memory_format=_contiguous())
        return packed


class _Unpacker:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._made: dict[str, Tensor] = {}

    def unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.unpack(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        kind = value.get(_MARK)
        if kind is None:
            return {key: self.unpack(item) for key, item in value.items()}
        if kind == "float":
            return float(value["value"])
        if kind == "tuple":
            return tuple(self.unpack(item) for item in value["value"])
        if kind == "dict":
            return {self.unpack(key): self.unpack(item) for key, item in value["value"]}
        return self._tensor(value)

    def _tensor(self, packed: Mapping[str, Any]) -> Tensor:
        import torch

        name = packed["name"]
        if name not in self._made:
            if name not in self._tensors:
                raise RequestError(f"the saved optimizer lacks the tensor {name!r}: the checkpoint is not complete")
            tensor = self._tensors[name]
            if "stride" in packed:
                ordered = torch.empty_strided(tensor.shape, packed["stride"], dtype=tensor.dtype, device=tensor.device)
                tensor = ordered.copy_(tensor)
            self._made[name] = tensor
        return self._made[name]


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format
