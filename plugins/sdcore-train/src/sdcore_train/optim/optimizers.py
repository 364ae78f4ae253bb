"""The optimizers that a configuration can name, and which parameters they decay."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore.plugin import nearest

from .optimizer_classes import optimizer_class

if TYPE_CHECKING:
    import torch

    from sdcore_train.config import Optimizer

_FIELDS = {
    "params": "the parameters come from the trainer",
    "lr": "set learning_rate",
    "betas": "set betas",
    "eps": "set epsilon",
    "weight_decay": "set weight_decay",
}
_TABLE = re.compile(r"(^|\.)([a-z_]*embedding|[a-z_]*(embeddings?|embeds?|emb)\.weight|wte\.weight|wpe\.weight)$")


def param_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]], learning_rate: float, weight_decay: float, name: str
) -> list[dict[str, Any]]:
    """At most two groups of parameters: those that decay, and those that do not.

    Biases, norms and other parameters of one dimension do not decay, nor do tables of embeddings (of tokens, of
    positions), whose rows mostly get no gradient. Parameters that need no gradient are left out; one that is
    shared by several modules is taken once.

    Args:
        named_parameters: such as ``module.named_parameters()``.
        learning_rate: of both groups.
        weight_decay: of the first group. If it is 0, there is one group.
        name: of the first group; the other is called ``name + ":no-decay"``.

    Returns:
        Groups for `make_optimizer`, none of them empty: ``{"name", "params", "lr", "weight_decay"}``.
    """
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    seen: set[int] = set()
    for key, parameter in named_parameters:
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        decays = weight_decay == 0 or (parameter.ndim > 1 and _TABLE.search(key) is None)
        (decayed if decays else kept).append(parameter)
    both = ((name, decayed, weight_decay), (f"{name}:no-decay", kept, 0.0))
    return [
        {"name": group, "params": members, "lr": learning_rate, "weight_decay": decay}
        for group, members, decay in both
        if members
    ]


def check_optimizer(config: Optimizer) -> None:
    """Find out whether `make_optimizer` can make it, without any parameters.

    Raises:
        RequestError: the name is not known, its package is not installed, or it takes no such argument.
    """
    _arguments(config, optimizer_class(config.name))


def make_optimizer(config: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Make the optimizer that a configuration names.

    ``adamw`` runs fused where the parameters' device has it (CUDA, CPU and others), else as torch chooses.
    ``adafactor`` takes its step size from the learning rate and not from the norm of the weights
    (``relative_step`` and ``scale_parameter`` off), and keeps no first moment unless ``options`` has ``beta1``.
    ``prodigy`` (arXiv 2306.06101) corrects the bias of its moments and leaves the learning rate out of its
    estimate, so that a warm-up does no harm. ``sgd`` takes its momentum from the first of ``betas``; its decay is
    not decoupled. A class given by its path gets those of ``lr``, ``betas`` and ``eps`` that it
    knows in the same form.

    Args:
        config: names it; its ``options`` go to the optimizer's constructor.
        groups: of parameters, as `param_groups` makes them, each with its own learning rate and decay.

    Raises:
        RequestError: as `check_optimizer`; or there is nothing to train, a value is out of range, or prodigy is
            given groups of different learning rates.
    """
    cls = optimizer_class(config.name)
    arguments = _arguments(config, cls)
    if not any(group["params"] for group in groups):
        raise RequestError("the optimizer got no parameters: nothing is trained; add a plugin that trains something")
    if config.name == "prodigy":
        _one_rate(groups)
    if config.name == "adamw" and "fused" not in config.options and "foreach" not in config.options:
        kinds = {(parameter.device, parameter.dtype) for group in groups for parameter in group["params"]}
        arguments["fused"] = all(_has_fused(device, dtype) for device, dtype in kinds)
    try:
        return cls([dict(group) for group in groups], **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"optimizer {config.name!r} refuses its settings: {error}; given: {arguments}") from error


def _arguments(config: Optimizer, cls: type[torch.optim.Optimizer]) -> dict[str, Any]:
    parameters = inspect.signature(cls.__init__).parameters
    known = {name for name, item in parameters.items() if item.kind is not inspect.Parameter.VAR_KEYWORD} - {"self"}
    anything = len(known) + 1 < len(parameters)
    for name in config.options:
        if name in _FIELDS:
            raise RequestError(f"optimizer.options has {name!r}: {_FIELDS[name]} instead")
        if name not in known and not anything:
            hint = nearest(name, known - set(_FIELDS))
            raise RequestError(f"optimizer {config.name!r} takes no argument {name!r}.{hint}")
    ours: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "eps": config.epsilon}
    if config.name == "adafactor":
        ours = {"lr": config.learning_rate, "relative_step": False, "scale_parameter": False}
    elif config.name == "prodigy":
        ours |= {"use_bias_correction": True, "safeguard_warmup": True}
    elif config.name == "sgd":
        ours = {"lr": config.learning_rate, "momentum": config.betas[0]}
    elif "." in config.name:
        ours = {
            name: value for name, value in ours.items() if name in known and _alike(value, parameters[name].default)
        }
    return ours | config.options


@functools.cache
def _has_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether fused AdamW runs there: tried, because torch tells only at the first step."""
    import torch

    try:
        one = torch.nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        one.grad = torch.zeros_like(one)
        torch.optim.AdamW([one], fused=True).step()
    except (RuntimeError, TypeError):
        return False
    return True


def _alike(value: Any, default: Any) -> bool:
    """Whether an argument of this name means the same: some optimizers have three betas, or two epsilons."""
    if isinstance(value, tuple):
        return isinstance(default, tuple) and len(default) == len(value)
    return not isinstance(default, tuple)


def _one_rate(groups: list[dict[str, Any]]) -> None:
    rates = sorted({float(group["lr"]) for group in groups})
    if len(rates) > 1 or rates[0] <= 0:
        raise RequestError(
            f"prodigy needs one learning rate above 0 for all that is trained, not {', '.join(map(str, rates))}: "
            "leave text_encoder_learning_rate out, and set learning_rate to 1"
        )
