"""The layers of peft in a network while it is trained: put in, read out, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdcore_lora.reading import LayerWeights

from . import initial
from .dropout import Clock, SteppedDropout
from .targets import Target

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module, Parameter

    from .options import TrainLoRA

ADAPTER = "default"


class Adapter:
    """The changes of one network, as layers of peft in it.

    Args:
        network: a U-Net or a text encoder; its weights are left alone until ``init`` is "pissa".
        targets: its layers, at least one.
        options: what kind of change.
        generator: a CPU generator for each purpose, the same whenever the training is begun.
        clock: counts micro-batches, for dropout.
        start: weights to go on from, by name of the module.
    """

    def __init__(
        self,
        network: Module,
        targets: Sequence[Target],
        options: TrainLoRA,
        generator: Callable[..., Generator],
        clock: Clock,
        start: Mapping[str, LayerWeights],
    ) -> None:
        self._targets = targets
        self._options = options
        self._originals: dict[str, Tensor] = {}
        self._tuner = _put_in(network, targets, options)
        self._network = network
        for target in targets:
            layer: Any = network.get_submodule(target.path)
            self._begin(layer, target, generator, start.get(target.module))
            if options.dropout:
                layer.lora_dropout[ADAPTER] = _dropout(options.dropout, target, generator, clock)

    def parameters(self) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
        """What is trained, by its name in the network: matrices, and magnitudes of DoRA."""
        found = {name: value for name, value in self._network.named_parameters() if ".lora_" in name}
        magnitudes = {name: value for name, value in found.items() if "magnitude" in name}
        return {name: value for name, value in found.items() if name not in magnitudes}, magnitudes

    def weights(self) -> Iterator[tuple[tuple[str, str], LayerWeights]]:
        """The changes as they are now, against the weights that the network came with; copies on the CPU, float32."""
        for target in self._targets:
            layer: Any = self._network.get_submodule(target.path)
            down, up = (_copy(part[ADAPTER].weight) for part in (layer.lora_A, layer.lora_B))
            scale = float(layer.scaling[ADAPTER])
            if target.path in self._originals:
                down, up = self._against_original(layer, target, down, up, scale)
                scale = 1.0
            parts = {"down": down, "up": up}
            if self._options.dora:
                parts["dora"] = _copy(layer.lora_magnitude_vector[ADAPTER].weight)
            yield (target.component, target.module), LayerWeights("lora", parts, scale)

    def remove(self) -> None:
        """Take the layers out; the network's weights are what they were, bit for bit."""
        self._tuner.unload()
        for path, original in self._originals.items():
            weight: Any = self._network.get_submodule(path).weight
            weight.data = original.to(weight.device)
        self._originals.clear()

    def _begin(self, layer: Any, target: Target, generator: Callable[..., Generator], given: Any) -> None:
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        base, scale = layer.get_base_layer().weight, float(layer.scaling[ADAPTER])
        drawn = generator("lora", "first weights", target.component, target.module)
        if given is not None:
            _fill(down, given.parts["down"])
            _fill(up, given.parts["up"].float() * (given.scale / scale))
        elif self._options.init == "pissa":
            first_down, first_up = initial.principal(base, target.sizes.rank, scale)
            _fill(down, first_down)
            _fill(up, first_up)
            # The tensor that the model came with is kept, not written to.
            self._originals[target.path] = base.data
            base.data = base.data - initial.product(down.data, up.data, scale).to(base.dtype)
        else:
            draw = initial.gaussian if self._options.init == "gaussian" else initial.kaiming
            _fill(down, draw(tuple(down.shape), drawn))
            _fill(up, up.new_zeros(up.shape))
        if self._options.dora:
            magnitude = layer.lora_magnitude_vector[ADAPTER].weight
            if given is not None and "dora" in given.parts:
                _fill(magnitude, given.parts["dora"])
            else:
                _fill(magnitude, initial.lengths(base.float() + initial.product(down, up, scale)))

    def _against_original(
        self, layer: Any, target: Target, down: Tensor, up: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        """The change seen from the original weight; it has twice the rank, as two products are in it."""
        from sdcore_lora.extracting import low_rank

        original = self._originals[target.path].float().cpu()
        changed = _copy(layer.get_base_layer().weight) + initial.product(down, up, scale)
        new_up, new_down, _ = low_rank(changed - original, 2 * target.sizes.rank)
        return new_down, new_up


def _put_in(network: Module, targets: Sequence[Target], options: TrainLoRA) -> Any:
    """peft's tuner about a network; the global generators are left as they are."""
    import torch
    from peft import LoraConfig, LoraModel

    first = targets[0].sizes
    others = [target for target in targets if target.sizes != first]
    settings: dict[str, Any] = {
        "r": first.rank,
        "lora_alpha": first.alpha,
        "rank_pattern": {target.path: target.sizes.rank for target in others},
        "alpha_pattern": {target.path: target.sizes.alpha for target in others},
        "target_modules": [target.path for target in targets],
        "use_dora": options.dora,
        "use_rslora": options.rslora,
    }
    with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced
        return LoraModel(network, LoraConfig(**settings), ADAPTER)


def _dropout(share: float, target: Target, generator: Callable[..., Generator], clock: Clock) -> SteppedDropout:
    def seed_of(number: int, process: int) -> int:
        return generator("lora", "dropout", target.component, target.module, number, process).initial_seed()

    return SteppedDropout(share, seed_of, clock)


def _fill(parameter: Any, value: Tensor) -> None:
    parameter.data.copy_(value.detach().reshape(parameter.shape))


def _copy(parameter: Any) -> Tensor:
    copied: Tensor = parameter.detach().float().cpu().clone()
    return copied
