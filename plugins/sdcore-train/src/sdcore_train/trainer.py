"""`train`: the main path, from a configuration to what the training made."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.cli.kit import at_ctrl_c

from . import resume as resuming
from .checkpoint import list_checkpoints
from .config import TrainConfig
from .errors import ConfigError, DivergedError
from .events import Began, Ended, Sampled, Saved, TrainEvent, Updated
from .hooks import Training
from .loop import Loop, Update
from .prepare import Ready, checkpoints_folder, fill_caches, load_job, prepare
from .resolve import known_plugins, resolve
from .sharding import gathered

if TYPE_CHECKING:
    from .job import Job

Observer = Callable[[TrainEvent], object]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training made.

    Attributes:
        output: the folder.
        files: what plugins wrote: model folders, LoRA files.
        steps: updates that were done in all.
        loss: mean loss of the last hundred updates.
        seconds: that this call took for updates.
        pictures_per_second: over this call.
    """

    output: Path
    files: tuple[Path, ...]
    steps: int
    loss: float
    seconds: float
    pictures_per_second: float


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    model: Any = None,
    plugins: Iterable[type[Training]] = (),
    on_event: Observer | None = None,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> Trained:
    """Train.

    Args:
        config: what, with what, how.
        resume: go on from the newest checkpoint in the output folder.
        model: a loaded model instead of the configuration's; its trained weights are changed in place.
        plugins: training plugins that no installed package brings.
        on_event: called with every event.
        say: called with lines for the user.
        progress: show a bar, if stderr is a terminal.

    Raises:
        ConfigError: before any work, naming what is wrong.
        DataError, ModelError: the data or the model cannot be used.
        DivergedError: loss or gradient became NaN; the last checkpoint stands.
        CheckpointError: a checkpoint could not be written or read.
    """
    config, used = resolve(config, known_plugins(plugins))
    with _output(config, resume):
        job = load_job(config, used, say, model=model, progress=progress)
        try:
            ready = prepare(job)
            start = resuming.load(ready) if resume else 0
            if resume:
                more = "" if start < ready.steps else ": nothing more is trained"
                say(f"it goes on after {start} of {ready.steps} steps{more}")
            fill_caches(job)
            return Run(ready, start, on_event).carry_out()
        finally:
            job.close()


@contextmanager
def _output(config: TrainConfig, resume: bool) -> Iterator[None]:
    """Make the output folder, and leave none behind that a refused training has put nothing into."""
    from sdcore.files import make_folder

    found = list_checkpoints(checkpoints_folder(config))
    if found and not resume:
        raise ConfigError(
            f"{config.output} holds a training of {found[-1][0]} steps: go on with it (--resume), or choose another "
            "output folder"
        )
    if resume:
        resuming.check_config(config)
    existed = Path(config.output).exists()
    folder = make_folder(config.output)
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):
                folder.rmdir()  # where it is empty


class Run:
    """A training under way: updates, and what is written between them."""

    def __init__(self, ready: Ready, start: int, on_event: Observer | None) -> None:
        from .recorder import Recorder

        self.ready = ready
        self.job: Job = ready.job
        self.start = start
        self._observer = on_event
        self._recorder = Recorder(self.job, start, ready.steps)
        self._told = False
        self._saved_at = time.monotonic()
        self._last_saved = start if start else -1

    def carry_out(self) -> Trained:
        """All updates, then everything that is written at the end."""
        job, steps = self.job, self.ready.steps
        loop = Loop(self.ready)
        self._tell(Began(job, self.start, steps))
        losses: deque[float] = deque(maxlen=100)
        seconds, pictures = 0.0, 0
        done = self.start
        try:
            # Several processes would each hear of it after another update, and wait for each other without end.
            asked = threading.Event()
            with nullcontext() if job.accelerator.num_processes > 1 else at_ctrl_c(asked.set):
                for update in loop.run(self.start):
                    losses.append(update.loss)
                    seconds, pictures, done = seconds + update.seconds, pictures + update.pictures, update.index + 1
                    self._after(update, done)
                    if asked.is_set():
                        self._stop(done)
        except DivergedError as error:
            last = list_checkpoints(checkpoints_folder(job.config))
            where = f"the last good checkpoint is {last[-1][1]}" if last else "there is no checkpoint yet"
            raise DivergedError(f"{error}. The training stopped; {where}. Try a lower learning rate") from None
        finally:
            self._recorder.close()
        if self._last_saved != done:
            self._checkpoint(done)
        files = self._artifacts()
        result = Trained(
            job.output,
            files,
            done,
            sum(losses) / len(losses) if losses else self._recorder.last_loss,
            seconds,
            pictures / seconds if seconds else 0.0,
        )
        self._recorder.finish(self._figures(result, len(losses)), files)
        self._tell(Ended(job, files))
        return result

    def _stop(self, done: int) -> None:
        """Ctrl-C: what is done so far is kept."""
        if self._last_saved != done:
            self._checkpoint(done)
        self._recorder.say(f"stopped after {done} of {self.ready.steps} steps; --resume goes on from here")
        raise KeyboardInterrupt

    def _figures(self, result: Trained, averaged: int) -> dict[str, str]:
        from .monitor.memory import peak_memory

        return {
            "steps": f"{result.steps:,}",
            f"loss (mean of the last {averaged} steps)" if averaged else "loss": f"{result.loss:.4g}",
            "time": f"{result.seconds / 60:.1f} min",
            "pictures per second": f"{result.pictures_per_second:.3g}",
            "peak memory": f"{peak_memory(self.job.device) / 1e6:,.0f} MB",
        }

    def _after(self, update: Update, done: int) -> None:
        job = self.job
        self._recorder.update(update)
        self._tell(Updated(job, update.index, update.loss, update.terms, update.rate, update.norm))
        kept, samples = job.config.checkpoints, job.config.samples
        late = bool(kept.seconds) and self._is_late(kept.seconds)
        if done < self.ready.steps and ((kept.every and done % kept.every == 0) or late):
            self._checkpoint(done)
        if samples.every and done % samples.every == 0 and done < self.ready.steps:
            self._draw(done)

    def _is_late(self, seconds: float) -> bool:
        """Whether it is time for a checkpoint; several processes, whose clocks differ, hear it from the first one."""
        late = time.monotonic() - self._saved_at >= seconds
        if self.job.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            late = broadcast_object_list([late])[0]
        return late

    def _checkpoint(self, done: int) -> None:
        if self.job.text.memory is not None and self.job.main:
            self.job.text.memory.flush()
        path = resuming.save(self.ready, done)
        self._saved_at, self._last_saved = time.monotonic(), done
        if path is not None:
            self._tell(Saved(self.job, done, path))

    def _draw(self, done: int) -> None:
        from .sampling import draw

        if not self.job.main or self.job.config.distributed == "fsdp":
            return  # a network in shards can only be called by all processes together
        with self._averaged(), self.job.evaluating():
            rows = draw(self.job)
        if not rows and self.job.config.samples.every and not self._told:
            self._told = True
            self._recorder.say("samples.every is set, and samples.prompts is empty: nothing is drawn")
        if rows:
            self._tell(Sampled(self.job, done, self._recorder.samples(done, rows)))

    def _artifacts(self) -> tuple[Path, ...]:
        job = self.job
        files: tuple[Path, ...] = ()
        with self._averaged(), job.evaluating(), gathered(job):
            if job.main:
                files = tuple(path for _, plugin in job.plugins for path in plugin.save(job, job.output))
        self._draw(self.ready.steps)
        return files

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.ready.ema is None else self.ready.ema.swap()

    def _tell(self, event: TrainEvent) -> None:
        for _, plugin in self.job.plugins:
            plugin.event(self.job, event)
        if self._observer is not None:
            self._observer(event)
