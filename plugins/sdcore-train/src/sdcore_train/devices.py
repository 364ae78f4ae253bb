"""Where the networks go and in which type; accelerate is asked here."""

from __future__ import annotations

import atexit
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from sdcore.plugin import nearest

from .config import TrainConfig
from .errors import ConfigError

if TYPE_CHECKING:
    import torch

    from .job import Job


def make_accelerator(config: TrainConfig) -> Any:
    """accelerate's Accelerator for a configuration.

    Raises:
        ConfigError: this machine cannot do what it asks for.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cpu = config.device == "cpu"
    _check_device(config.device)
    if config.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ConfigError("precision fp16 needs a GPU; use bf16 or no")
    if config.compile is not None:
        _check_backend(config.compile)
    if PartialState._shared_state.get("num_processes", 1) == 1:
        # What an earlier training in this process asked for is over.
        AcceleratorState._reset_state(reset_partial_state=True)
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
    if config.device is not None and accelerator.device.type != config.device.partition(":")[0]:
        raise ConfigError(f"device is {config.device!r}, and accelerate takes {accelerator.device} here; leave it out")
    if accelerator.num_processes > 1 and not joined:
        _leave_at_exit()
    return accelerator


def _check_device(device: str | None) -> None:
    """Refuse what is no device here; make "cuda:1" the one that accelerate will take."""
    import torch

    kind, _, number = (device or "cpu").partition(":")
    if kind not in ("cpu", "cuda", "mps", "xpu") or (number and (kind != "cuda" or not number.isdecimal())):
        raise ConfigError(f"device is {device!r}; known are cpu, cuda, cuda:N, mps and xpu")
    if kind != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError(f"device is {device!r}, and torch finds no CUDA device here")
    if number:
        if int(number) >= torch.cuda.device_count():
            raise ConfigError(f"device is {device!r}, and there are {torch.cuda.device_count()} CUDA devices")
        torch.cuda.set_device(int(number))


@cache
def _leave_at_exit() -> None:
    """Leave the group of processes when Python ends: threads that still run for it then can abort the process."""
    import torch

    def leave() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(leave)


def _check_backend(name: str) -> None:
    import torch

    if name not in torch.compiler.list_backends(exclude_tags=()):
        usual = torch.compiler.list_backends()  # without those for finding errors in torch
        raise ConfigError(f"compile is {name!r}, which torch.compile does not know.{nearest(name, usual)}")


def attention(job: Job) -> AbstractContextManager[None]:
    """Inside, attention is computed as is fastest for a training.

    On a CPU in bfloat16, the way back through torch's fused attention takes so long that plain matrix products make a
    step of the embedded model's U-Net 0.83 of the time (one thread, torch 2.13). Elsewhere torch chooses.
    """
    if job.device.type != "cpu" or job.config.precision != "bf16":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    found: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return found


def place(job: Job) -> None:
    """Move the networks, keep trained weights in float32, wrap those that are shared or compiled."""
    import torch

    frozen = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[job.config.precision]
    if job.device.type == "cpu":
        # There, autocast lets upsampling give float32, and norms refuse weights of another type than their input.
        frozen = torch.float32
    needed_again = bool(job.places) or any(plugin.writes_model for _, plugin in job.plugins)
    for name, module in job.model.components.items():
        # A VAE in float16 overflows in many models.
        dtype = torch.float32 if name == "vae" else frozen
        if needed_again:
            found = _tensors(module)
            job.before |= {f"{name}/{key}": part.detach().cpu() for key, part in found if _changes(part, dtype)}
        _to(module, job.device, dtype)
    own = job.model.components
    for name, module in {one.name: one.module for one in job.trained}.items():
        if own.get(name) is not module:
            _to(module, job.device, frozen)
        module.train()
        if job.config.gradient_checkpointing:
            _checkpointing(module, "enable")
        called = any(one.called for one in job.trained if one.name == name)
        shared = called and job.config.distributed != "fsdp"
        job.networks[name] = _shared(job, name, module) if shared else module
    if job.config.distributed == "fsdp":
        from .sharding import shard

        shard(job)
    if job.config.compile is not None:
        # The model keeps the module itself: pictures are drawn in other sizes, and would be compiled anew.
        for name in {one.name for one in job.trained if one.called}:
            compiled: Any = torch.compile(job.networks[name], backend=job.config.compile)
            job.networks[name] = compiled


def _shared(job: Job, name: str, module: torch.nn.Module) -> Any:
    """The network as several processes call it together."""
    from accelerate.utils import DistributedDataParallelKwargs

    # Where a family takes an earlier state of a text encoder, the last layers have no gradient.
    unused = name.startswith("text_encoder")
    job.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=unused)
    return job.accelerator.prepare(module)


def _checkpointing(module: Any, what: str) -> None:
    """Enable or disable it, by the name that diffusers, transformers and older ones of those have for it."""
    names = (f"{what}_gradient_checkpointing", f"activation_checkpointing_{what}", f"gradient_checkpointing_{what}")
    found = next((name for name in names if hasattr(module, name)), None)
    if found is not None:
        getattr(module, found)()


def _tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _changes(part: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a weight that is not trained gets another type."""
    return part.is_floating_point() and not part.requires_grad and part.dtype != dtype


def restore(job: Job) -> None:
    """Put a model that somebody lent back: weights that got another type for the training, and each where it was."""
    for name, place in job.places.items():
        module = job.model.components[name]
        if job.config.gradient_checkpointing:
            _checkpointing(module, "disable")
        for key, part in _tensors(module):
            part.data = job.before.get(f"{name}/{key}", part.data).to(place)


def _to(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network; what is trained is float32, the rest is of ``dtype``."""
    import torch

    for part in (*module.parameters(), *module.buffers()):
        wanted = torch.float32 if part.requires_grad else dtype
        if part.is_floating_point() and (part.dtype != wanted or part.device != device):
            part.data = part.data.to(device, wanted)
        elif part.device != device:
            part.data = part.data.to(device)
