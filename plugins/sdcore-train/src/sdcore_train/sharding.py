"""Weights in shards over several processes: torch's fully_shard (FSDP2), where one process cannot hold all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from .job import Job


def shard(job: Job) -> None:
    """Split the trained networks over the processes: each block by itself, then what is left of the network.

    ``job.trained`` then holds the shards.

    Raises:
        ConfigError: there is one process only, or the precision needs a scaler.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    count = job.accelerator.num_processes
    if count < 2:
        raise ConfigError("distributed fsdp needs several processes: start with accelerate launch --num_processes N")
    if job.config.precision == "fp16":
        raise ConfigError("distributed fsdp does not go with precision fp16; use bf16 or no")
    mesh = init_device_mesh(job.device.type, (count,))
    for name in dict.fromkeys(one.name for one in job.trained if one.called):
        module = job.networks[name]
        for block in _blocks(module):
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
    job.trained = tuple(
        replace(one, parameters={name: dict(one.module.named_parameters())[name] for name in one.parameters})
        if one.called
        else one
        for one in job.trained
    )
    torch.distributed.barrier()


def _blocks(module: Module) -> Iterator[Module]:
    """The parts that are gathered and let go one after another."""
    lists = ("down_blocks", "up_blocks", "layers")
    for name, part in module.named_modules():
        if name.rpartition(".")[2] in lists:
            yield from part.children()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is not in shards; every process must ask for it."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def like(full: Tensor, place: Tensor) -> Tensor:
    """``full`` split as ``place`` is."""
    mesh: Any = getattr(place, "device_mesh", None)
    if mesh is None:
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(place.device), mesh, place.placements)  # type: ignore[attr-defined]


def all_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, none of them in shards."""
    return {name: whole(tensor) for name, tensor in tensors.items()}


@contextmanager
def gathered(job: Job) -> Iterator[None]:
    """Inside, the networks hold whole weights, to be written; they cannot be called. Every process must enter it."""
    kept: list[tuple[Module, str, Any]] = []
    import torch

    for name in dict.fromkeys(one.name for one in job.trained if one.called):
        for module in job.networks[name].modules():
            for key, parameter in list(module.named_parameters(recurse=False)):
                if hasattr(parameter, "full_tensor"):
                    kept.append((module, key, parameter))
                    full = torch.nn.Parameter(whole(parameter.detach()), requires_grad=False)
                    module._parameters[key] = full
    try:
        yield
    finally:
        for module, key, parameter in kept:
            module._parameters[key] = parameter
