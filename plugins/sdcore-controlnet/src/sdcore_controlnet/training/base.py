"""What the trainings of ControlNets and T2I-Adapters have in common: control pictures, samples, the saved folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore_train import Batch, ConfigError, Trained, Training, TrainStep, UNetArgs, generator, in_the_way, ports

from sdcore import Contributions, ModelError, RequestError
from sdcore_controlnet.describe import Kind

from .controls import Controls
from .kept import KeptPictures
from .making import Maker, make_maker, try_out
from .options import TrainControl

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image
    from sdcore_train import Job
    from torch import Tensor

ROWS = 4
"""Pictures of the data that samples show."""


class ControlTraining(Training, ABC):
    """Base of the two. The U-Net and the text encoders stay as they are."""

    kind: Kind
    options: TrainControl
    net: Any
    controls: Controls
    _maker: Maker | None = None

    def check(self, job: Job) -> Iterable[str]:
        """Find the preprocessor and try it; see that control pictures can be made as pictures are cut and mirrored."""
        if job.model.family == "refiner":
            yield f"{self.name}: there are no {self.kind}s for the refiner of SDXL"
        yield from in_the_way(job, self.options.name)
        options, pictures = self.options, job.config.pictures
        if options.preprocess is None:
            return
        from sdcore.host import PluginHost

        try:
            known = PluginHost().registry.all("preprocessor")
            self._maker = make_maker(options.preprocess, known, options.preprocess_options, options.vary)
            try_out(self._maker, generator(job.config.seed, "try"))
        except (RequestError, ModelError) as error:
            yield f"{self.name}: {error}"
        if pictures.flip and pictures.crop == "center" and pictures.cache != "off":
            yield (
                f"{self.name}: with pictures.flip control pictures are made of what each visit shows, so latents must "
                "not be cached: set pictures.cache to 'off', or pictures.flip to false"
            )

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The net, all of it."""
        pictures = job.config.pictures
        self.controls = self._controls(job, pictures.flip or pictures.crop == "random")
        self.net = self._going_on(job) if self.options.start else self._new(job)
        yield Trained(self.name, self.net, dict(self.net.named_parameters()))

    def _controls(self, job: Job, from_pixels: bool) -> Controls:
        folder = None
        if job.config.pictures.cache == "disk" and not job.dry:
            folder = Path(job.config.pictures.cache_folder or job.output / "cache") / "controls"
        try:
            return Controls(job.data.records, self._maker, job.data.picture, KeptPictures(folder), from_pixels)
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}") from None

    @abstractmethod
    def _new(self, job: Job) -> Any:
        """A new net for the model, float32, on the CPU."""

    def _going_on(self, job: Job) -> Any:
        import torch

        from sdcore_controlnet.describe import describe
        from sdcore_controlnet.fits import misfit
        from sdcore_controlnet.installed import find_net
        from sdcore_controlnet.nets import load_module

        unet: Any = job.model.unet.config
        factor, channels = job.model.vae_scale_factor, job.model.latent_channels
        try:
            description = describe(find_net(str(self.options.start)), unet, factor)
            problem = misfit(description, unet, job.model.family, factor, channels)
            if description.kind != self.kind:
                problem = f"{description.what}: it is a {description.kind}; this trains a {self.kind}"
            if problem:
                raise ConfigError(f"{self.name}: start: {problem}")
            return load_module(description, torch.device("cpu"), torch.float32)
        except ModelError as error:
            raise ConfigError(f"{self.name}: start: {error}") from None

    def stages(self, job: Job) -> Contributions:
        """Put the control pictures into the batch, and what the net makes of them into the U-Net's call."""
        return [ports.batch(self._batch), ports.unet_call(self._call)]

    def _batch(self, step: TrainStep, batch: Batch) -> Batch:
        import torch

        controls = self.controls.of(batch, step.generator(f"{self.name}-controls"))
        if self.options.dropout:
            drawn = torch.rand(len(batch), generator=step.generator(f"{self.name}-dropout"))
            controls = controls * (drawn >= self.options.dropout).view(-1, 1, 1, 1)
        return replace(batch, extra={**batch.extra, self.name: controls})

    @abstractmethod
    def _call(self, args: UNetArgs, call_next: Callable[[UNetArgs], Tensor]) -> Tensor:
        """What the net adds to the U-Net's call."""

    def samples(self, job: Job) -> Sequence[tuple[str, Sequence[Image]]] | None:
        """A few pictures of the data: their control pictures, what is drawn with them, and without."""
        import torch

        from sdcore import Engine
        from sdcore_controlnet.options import ControlNet
        from sdcore_controlnet.plugin import ControlNetPlugin

        wanted = job.config.samples
        if not (wanted.every or wanted.prompts):
            return None
        seeds = [wanted.seed + number for number in range(wanted.count)]
        rows = []
        with torch.no_grad():
            engine = Engine(job.model, plugins=[ControlNetPlugin])
            for number, (control, caption) in enumerate(self._shown(job, len(wanted.prompts) or ROWS)):
                prompt = wanted.prompts[number] if wanted.prompts else caption
                size = {"height": control.height, "width": control.width}
                fields: dict[str, Any] = {"seeds": seeds, **size, **wanted.request}
                use = [ControlNet.model_validate({"model": self.net, "image": control})]
                drawn = engine.generate(prompt, use=use, **fields).images
                rows.append((prompt, [control, *drawn, *engine.generate(prompt, **fields).images]))
        return rows

    def _shown(self, job: Job, count: int) -> list[tuple[Image, str]]:
        """Control pictures of the first visits, and the captions of these."""
        from sdcore.images import tensors_to_images

        found: list[tuple[Image, str]] = []
        with closing(job.data.stream(0)) as stream:  # type: ignore[type-var]  # it is a generator
            while len(found) < count:
                batch = next(stream)
                controls = self.controls.of(batch, generator(job.config.seed, "samples", len(found)))
                found += zip(tensors_to_images(controls * 2 - 1), batch.captions, strict=True)
        return found[:count]

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The net as a folder that sdcore and diffusers load."""
        import torch
        from sdcore_train import save_network

        yield save_network(self.net, folder / self.options.name, dtype=getattr(torch, self.options.dtype))


def added(before: Sequence[Tensor] | None, more: Sequence[Tensor]) -> list[Tensor]:
    """What one net adds to the U-Net together with what others add: sums, tensor by tensor."""
    return list(more) if before is None else [a + b for a, b in zip(before, more, strict=True)]
