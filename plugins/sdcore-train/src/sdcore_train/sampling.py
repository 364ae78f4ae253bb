"""Sample pictures while training: by a plugin, or by the engine with the model as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from .config import TrainConfig
    from .job import Job


def check_samples(config: TrainConfig) -> None:
    """Find out before any work whether pictures can be asked for as the configuration says.

    Raises:
        ConfigError: with what is wrong with it.
    """
    from sdcore import GenerateRequest, RequestError

    for prompt in config.samples.prompts:
        try:
            GenerateRequest(**{"prompt": prompt, **config.samples.request})
        except RequestError as error:
            raise ConfigError(f"samples.request: {error}") from None


def draw(job: Job) -> Sequence[tuple[str, Sequence[Image]]]:
    """The sample pictures: rows of a label and its pictures. The networks must be in eval mode."""
    for _, plugin in job.plugins:
        made = plugin.samples(job)
        if made is not None:
            return made
    return _generate(job)


def _generate(job: Job) -> Sequence[tuple[str, Sequence[Image]]]:
    import torch

    from sdcore import Engine

    samples = job.config.samples
    if not samples.prompts:
        return []
    uses = [one for _, plugin in job.plugins for one in plugin.sampling(job)]
    seeds = [samples.seed + number for number in range(samples.count)]
    rows = []
    with torch.no_grad():
        engine = Engine(job.model, plugins=[plugin for plugin, _ in uses])
        for prompt in samples.prompts:
            fields = {"seeds": seeds, "use": [options for _, options in uses], **samples.request}
            rows.append((prompt, engine.generate(prompt, **fields).images))
    return rows
