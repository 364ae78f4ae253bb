"""The progress bar, and where previews go."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from sdcore.events import Event, Finished, Started, Stepped, Warned
from sdcore.files import write_atomic

from .terminal import complain


class Progress:
    """Called with the events of a run. A bar with rate and time left, if stderr is a terminal.

    Args:
        quiet: no bar and no warnings.
        previews: a folder for a picture of every step, or None.
    """

    def __init__(self, quiet: bool = False, previews: Path | None = None) -> None:
        self._quiet = quiet
        self._previews = previews
        self._bar: Any = None
        self._batches = 1

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Started):
            self._batches = event.batches
            self._open(event.steps * event.batches)
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Warned) and not self._quiet:
            if self._bar is not None:
                self._bar.clear()
            complain(f"warning: {event.message}")
        elif isinstance(event, Finished):
            self._close()

    def _step(self, event: Stepped) -> None:
        bar, count = self._bar, event.step.count
        if bar is not None:
            # A plugin may run several passes, so the steps of a batch may be more than was said.
            bar.total = max(count * self._batches, bar.n + 1)
            bar.update(1)
        if self._previews is not None:
            for seed, image in zip(event.run.seeds, event.preview(), strict=False):
                name = f"{seed}-step-{event.step.index + 1:0{len(str(count))}d}.png"
                write_atomic(self._previews / name, _png(image), overwrite=True)

    def _open(self, steps: int) -> None:
        if self._bar is None and not self._quiet:
            self._bar = open_bar(steps, "step")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def open_bar(total: int, unit: str) -> Any:
    """A bar on stderr with rate and time left, gone when it is closed; None if stderr is no terminal."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that watches over a bar
    # By hand: a terminal that does not tell its size has none for tqdm, which then shows nothing.
    size = shutil.get_terminal_size()
    return tqdm(total=total, unit=unit, file=sys.stderr, leave=False, ncols=size.columns - 1, nrows=size.lines)


def _png(image: Any) -> bytes:
    from sdcore.picture_files import encode_image

    return encode_image(image, "png", None)
