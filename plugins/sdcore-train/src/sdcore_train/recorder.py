"""What a training shows and writes while it runs: the bar, the log, the loss curve, samples, the report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import TrainConfig
from .monitor.bar import TrainBar
from .monitor.curve import draw_curve
from .monitor.log import LOG, Log
from .monitor.memory import readable
from .monitor.report import DataFacts, Made, Report, write_report
from .monitor.samples import PROGRESS, write_samples

if TYPE_CHECKING:
    from PIL.Image import Image

    from .job import Job
    from .loop import Update

CURVE = "loss.png"


class Recorder:
    """Told of every update; only the main process shows and writes anything."""

    def __init__(self, job: Job, start: int, steps: int) -> None:
        self._job = job
        self._start, self._steps = start, steps
        self._began = time.monotonic()
        self._terms: dict[str, float] = {}
        self._since = 0
        self._seconds, self._pictures = 0.0, 0
        quiet = not (job.main and job.progress)
        self._bar = TrainBar(steps, start, quiet=quiet, out=job.say)
        self._log = Log(job.output / LOG, start) if job.main else None
        self._events: Any = None
        if job.main and job.config.logging.tensorboard:
            from .monitor.tensorboard import EventWriter

            self._events = EventWriter(job.output / "tensorboard", start)

    def update(self, update: Update) -> None:
        """Show an update, and write what is due."""
        self._bar.update(loss=update.loss, rate=update.rate, pictures=update.pictures, seconds=update.seconds)
        for name, value in update.terms.items():
            self._terms[name] = self._terms.get(name, 0.0) + value
        self._since += 1
        self._seconds += update.seconds
        self._pictures += update.pictures
        done = update.index + 1
        if self._log is None:
            return
        logging = self._job.config.logging
        if done % logging.every == 0 or done == self._steps:
            self._row(done, update)
        if logging.curve and done % logging.curve == 0:
            self.curve()

    def _row(self, done: int, update: Update) -> None:
        """A row of the log: means since the last one."""
        assert self._log is not None
        terms = {name: value / self._since for name, value in self._terms.items()}
        row = {
            "step": done,
            "loss": sum(terms.values()),
            "terms": terms,
            "rate": update.rate,
            "norm": update.norm,
            "pictures_per_second": self._pictures / self._seconds if self._seconds else 0.0,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        self._log.write(row)
        if self._events is not None:
            self._events.row(row)
        self._terms, self._since, self._seconds, self._pictures = {}, 0, 0.0, 0

    @property
    def last_loss(self) -> float:
        """As the log has it; NaN if that is empty."""
        return float(self._log.rows[-1]["loss"]) if self._log is not None and self._log.rows else float("nan")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.say(text)

    def samples(self, done: int, rows: Sequence[tuple[str, Sequence[Image]]]) -> Path:
        """Write sample pictures."""
        path = write_samples(self._job.output / "samples", done, rows)
        if self._events is not None:
            from PIL import Image

            self._events.picture("samples", Image.open(path), done)
        return path

    def curve(self) -> Path | None:
        """Draw the loss curve of what was logged so far."""
        if self._log is None or not self._log.rows:
            return None
        return draw_curve(self._log.rows, self._job.output / CURVE)

    def close(self) -> None:
        """Take the bar away, close the files; the curve shows what there is."""
        self._bar.close()
        if self._log is not None:
            with contextlib.suppress(OSError):  # a full disk must not hide what went wrong
                self.curve()
            self._log.close()
        if self._events is not None:
            self._events.close()

    def finish(self, figures: dict[str, str], files: Sequence[Path]) -> Path | None:
        """Write the report."""
        job = self._job
        if not job.main:
            return None
        sheets = sorted((job.output / "samples").glob("step-*.png"))
        progress = job.output / "samples" / PROGRESS
        curve = job.output / CURVE
        methods = ", ".join(label for label, plugin in job.plugins if plugin.command)
        report = Report(
            title=f"{methods} on {job.model.source}",
            summary=f"{job.data.batches_per_epoch} batches make one round through {len(job.data.records)} pictures.",
            figures=tuple(figures.items()),
            config=job.config.model_dump(mode="json"),
            defaults=TrainConfig.model_validate({}).model_dump(mode="json"),
            data=DataFacts(
                facts=(("pictures", f"{len(job.data.records):,}"), ("left out", f"{len(job.data.skipped):,}")),
                buckets=job.data.buckets,
                skipped=job.data.skipped,
            ),
            curve=curve if curve.exists() else None,
            progress=progress if progress.exists() else None,
            samples=[(path.stem.replace("-", " "), path) for path in sheets],
            made=[Made(path, *_about(path)) for path in files],
            notes=(f"It went on from step {self._start}.",) if self._start else (),
        )
        return write_report(job.output, report)


def _about(path: Path) -> tuple[str, str]:
    """What a file is, and how it is used."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if (path / "model_index.json").exists():
            return f"a model, {readable(size)}", f'sdcore generate "a prompt" --model {path} --out picture.png'
        return f"a network, {readable(size)}", ""
    return readable(path.stat().st_size), ""
