"""The dry run: everything is loaded, one step is trained, memory and time are estimated, nothing is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .hooks import Training
from .loop import Loop
from .monitor.memory import Need, estimate, optimizer_size, peak_memory
from .prepare import count, load_job, prepare
from .resolve import changed, known_plugins, resolve


@dataclass(frozen=True)
class DryRun:
    """What a dry run found.

    Attributes:
        steps: that the training would take.
        seconds: of one step, after a first one that is slower.
        loss: of the first step.
        trained, frozen: numbers of weights.
        pictures: of the data; ``skipped`` are left out.
        memory: what memory is needed for.
        peak: bytes at most, measured.
    """

    steps: int
    seconds: float
    loss: float
    trained: int
    frozen: int
    pictures: int
    skipped: int
    memory: tuple[Need, ...] = field(default=())
    peak: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """As a table."""
        hours, rest = divmod(round(self.steps * self.seconds), 3600)
        return [
            ("pictures", f"{self.pictures:,} ({self.skipped:,} left out)"),
            ("trained weights", f"{self.trained:,}"),
            ("other weights", f"{self.frozen:,}"),
            ("loss of the first step", f"{self.loss:.5g}"),
            ("one step", f"{self.seconds:.3f} s, with the encoding of its pictures and captions, which caches save"),
            (f"{self.steps:,} steps", f"{hours} h {rest // 60} min {rest % 60} s"),
            *((need.what, f"{need.size / 1e6:,.1f} MB" + f" ({need.how})" * bool(need.how)) for need in self.memory),
            ("peak of this process", f"{self.peak / 1e6:,.1f} MB (measured)"),
        ]


def dry_run(
    config: TrainConfig,
    *,
    model: Any = None,
    plugins: Iterable[type[Training]] = (),
    say: Callable[[str], None] = print,
) -> DryRun:
    """Find out whether a training works and what it takes.

    Two steps are trained: the first makes the optimizer's state, the second is timed. Pictures are encoded in the
    step, because caches would be written for all of them. A model that is given is put back as it was.

    Raises:
        Whatever `sdcore_train.train` raises before and in its first steps.
    """
    with tempfile.TemporaryDirectory(prefix="sdcore-dry-run-") as folder:
        destination = Path(config.output)
        pictures = config.pictures.model_copy(update={"cache": "off"})
        config, used = resolve(changed(config, output=folder, pictures=pictures), known_plugins(plugins))
        job = load_job(config, used, say, model=model, dry=True, destination=destination)
        try:
            ready = prepare(job)
            before = {name: value.detach().clone() for name, value in job.parameters.items()}
            updates = Loop(ready).run(0)
            first = next(updates)
            began = time.perf_counter()
            next(updates, None)
            seconds = time.perf_counter() - began if ready.steps > 1 else first.seconds
            updates.close()
            for name, value in job.parameters.items():
                value.data.copy_(before[name])
            trained = list(job.parameters.values())
            weights = [p for module in job.model.components.values() for p in module.parameters()]
            others = [p for p in weights if not p.requires_grad]
            frozen = sum(p.numel() for p in others)
            peak = peak_memory(job.device)
            needs = estimate(
                [p.shape for p in trained],
                frozen,
                config.optimizer.name,
                frozen_size=sum(p.numel() * p.element_size() for p in others),
                ema=bool(config.ema.decay),
                state=optimizer_size(getattr(ready.optimizer, "optimizer", ready.optimizer)),
                peak=peak if job.device.type == "cuda" else None,
            )
            return DryRun(
                ready.steps,
                seconds,
                first.loss,
                count(job.parameters),
                frozen,
                len(job.data.records),
                len(job.data.skipped),
                needs,
                peak,
            )
        finally:
            job.close()
