"""The training plugin ``lora``: which layers get a change, and the file that comes of it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sdcore_train import Training, in_the_way, ports

from sdcore import Contributions, ModelError

from . import targets
from .options import TrainLoRA

if TYPE_CHECKING:
    from sdcore_train import Batch, Job, Trained, TrainStep
    from torch import Generator

    from sdcore_lora.binding import Plan
    from sdcore_lora.reading import LoRAWeights

    from .dropout import Clock
    from .network import Adapter


class LoRATraining(Training):
    """Puts layers of peft into the networks, and writes what they learnt as a LoRA file. The model stays as it is."""

    name = "lora"
    Options = TrainLoRA
    command = True
    about = "train a LoRA (LoCon, DoRA) for the U-Net and the text encoders"
    defaults: ClassVar[Mapping[str, object]] = {"optimizer.learning_rate": 1e-4}
    options: TrainLoRA
    _plan: Plan
    _targets: tuple[targets.Target, ...] = ()
    _adapters: tuple[Adapter, ...] = ()
    _clock: Clock

    def check(self, job: Job) -> Iterator[str]:
        """Say what cannot be trained; settle on the layers."""
        from sdcore_lora.library import plan_of_model

        self._plan = plan_of_model(job.model)
        found = tuple(self._chosen(job))
        self._targets = found
        if importlib.util.find_spec("peft") is None:
            yield "lora: needs peft, which is not installed: pip install 'sdcore-lora[train]'"
        if sum(isinstance(plugin, LoRATraining) for _, plugin in job.plugins) > 1:
            yield "lora: is in use twice; one training makes one LoRA"
        for label, plugin in job.plugins:
            if plugin.writes_model:
                yield f"lora: {label!r} trains the model itself, and a LoRA is for one that stays: use one of them"
        if _adapted(job):
            yield "lora: the model already carries adapters; unload them first"
            return
        if self.options.text_encoder and job.model.family == "refiner":
            yield (
                "lora: text_encoder is set, and the SDXL refiner shares its text encoder with SDXL base; train it "
                "there, and the refiner without"
            )
        for component in dict.fromkeys(name.partition("_2")[0] for name in self._components(job)):
            if not any(target.component.startswith(component) for target in found):
                yield (
                    f"lora: targets {self.options.targets!r} match no layer of {component}; take one of "
                    f"{', '.join(targets.GROUPS)}, or an expression for names such as {self._example(component)}"
                )
        large = any(targets.is_large_convolution(target.shape) for target in found)
        if not large and (self.options.conv_rank is not None or self.options.conv_alpha is not None):
            yield (
                f"lora: conv_rank or conv_alpha is given, and targets {self.options.targets!r} has no convolution "
                "larger than 1x1; use linear+conv"
            )
        if found and self.options.resume_from is not None:
            from .going_on import problems_of

            for problem in problems_of(self.options.resume_from, self._plan, found, self.options.dora):
                yield f"lora: {problem}"
        if self.options.layout != "peft":
            yield from in_the_way(job, f"{self.options.file}.safetensors")
        if self.options.layout in ("peft", "both"):
            yield from in_the_way(job, self._folder(job.destination).name)

    def parameters(self, job: Job) -> Iterator[Trained]:
        """The new layers: matrices, and DoRA's magnitudes, which do not decay."""
        from sdcore_train import Trained, generator

        from .dropout import Clock
        from .going_on import start_of
        from .network import Adapter

        seed = job.config.seed

        def drawn(*purpose: object) -> Generator:
            return generator(seed, *purpose)

        self._clock = Clock(job.process)
        path = self.options.resume_from
        start = {} if path is None else start_of(path, self._plan)
        for component in dict.fromkeys(target.component for target in self._targets):
            network: Any = job.model.components[component]
            chosen = [target for target in self._targets if target.component == component]
            adapter = Adapter(network, chosen, self.options, drawn, self._clock, start.get(component, {}))
            self._adapters += (adapter,)
            matrices, magnitudes = adapter.parameters()
            rate = None if component == "unet" else job.config.optimizer.text_encoder_learning_rate
            yield Trained(component, network, matrices, rate)
            if magnitudes:
                yield Trained(component, network, magnitudes, rate, 0.0, label=f"{component} magnitudes")
        layers, numbers = (
            len(self._targets),
            sum(p.numel() for a in self._adapters for d in a.parameters() for p in d.values()),
        )
        job.say(f"lora: {layers} layers, {numbers:,} numbers")

    def stages(self, job: Job) -> Contributions:
        """Dropout is told where the training is."""
        if not self.options.dropout:
            return None

        def tell(step: TrainStep, batch: Batch) -> None:
            self._clock.number = step.number

        return ports.batch(tell)

    def state(self, job: Job) -> dict[str, object]:
        """The file that the training began with."""
        from .going_on import digests

        return {} if self.options.resume_from is None else {"resume_from": digests(self.options.resume_from)}

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The LoRA, in the layouts that are asked for."""
        from sdcore_lora.saving import save_lora

        lora, dtype = self._weights(job), self.options.dtype
        if self.options.layout != "peft":
            path = folder / f"{self.options.file}.safetensors"
            layout = "diffusers" if self.options.layout == "diffusers" else "kohya"
            yield save_lora(lora, path, layout=layout, dtype=dtype, overwrite=True)
        if self.options.layout in ("peft", "both"):
            temporary, final = folder / f".{self._folder(folder).name}.new", self._folder(folder)
            shutil.rmtree(temporary, ignore_errors=True)
            save_lora(lora, temporary, layout="peft", dtype=dtype)
            shutil.rmtree(final, ignore_errors=True)
            yield temporary.rename(final)

    def close(self, job: Job) -> None:
        """Take the layers out of the model."""
        for adapter in reversed(self._adapters):
            adapter.remove()
        self._adapters = ()

    def _weights(self, job: Job) -> LoRAWeights:
        from sdcore_lora.binding import NAMES
        from sdcore_lora.reading import LoRAWeights

        from .metadata import metadata_of

        layers = dict(pair for adapter in self._adapters for pair in adapter.weights())
        for (component, module), layer in layers.items():
            for value in layer.parts.values():
                if not bool(value.isfinite().all()):
                    raise ModelError(f"lora: {component}.{module} holds NaN or infinity; nothing is written")
        return LoRAWeights(layers, metadata=metadata_of(job, self.options), family=NAMES[job.model.family])

    def _components(self, job: Job) -> tuple[str, ...]:
        texts = [name for name in job.model.components if name.startswith("text_encoder") and self.options.text_encoder]
        return (*(["unet"] if self.options.unet else []), *texts)

    def _chosen(self, job: Job) -> Iterator[targets.Target]:
        from torch import nn

        chosen = self.options
        sizes = targets.sizes_of(
            chosen.rank, chosen.alpha, chosen.conv_rank, chosen.conv_alpha, chosen.text_encoder_rank
        )
        components = self._components(job)
        for one in targets.choose(self._plan.modules, self._plan.real, components, chosen.targets, sizes):
            module = job.model.components[one.component].get_submodule(one.path)
            if isinstance(module, nn.Linear | nn.Conv2d) and getattr(module, "groups", 1) == 1:
                yield one

    def _example(self, component: str) -> str:
        known = {name: modules for name, modules in self._plan.modules.items() if name.startswith(component)}
        return next(
            (f"{name}.{module}" for name, modules in known.items() for module, s in modules.items() if len(s) > 1), ""
        )

    def _folder(self, output: Path) -> Path:
        return output / f"{self.options.file}-peft"


def _adapted(job: Job) -> bool:
    return any(hasattr(module, "peft_config") for module in job.model.components.values())
