"""Event files for TensorBoard, as an option."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore.files import make_folder

if TYPE_CHECKING:
    from PIL.Image import Image


def check_tensorboard() -> None:
    """Find out before any work whether events can be written.

    Raises:
        RequestError: tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise RequestError(
            "logging.tensorboard needs tensorboard, which is not installed: "
            'pip install "sdcore-train[tensorboard]", or leave it out'
        )


class EventWriter:
    """Writes rows of the log, and sample sheets, as events.

    Args:
        folder: for the event files; made if absent.
        start: updates done before; what an earlier process wrote beyond them is hidden.

    Raises:
        RequestError: tensorboard is not installed.
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], start: int = 0) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        top = make_folder(folder)
        self._writer: Any = SummaryWriter(str(top), purge_step=start + 1 if start else None)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of a row of the log; those in its mappings (``terms``) as ``terms/name``."""
        step = row["step"]
        for name, value in row.items():
            nested = value.items() if isinstance(value, Mapping) else ()
            for key, number in [(name, value), *((f"{name}/{part}", item) for part, item in nested)]:
                if key != "step" and isinstance(number, int | float) and not isinstance(number, bool):
                    self._writer.add_scalar(key, number, step)

    def picture(self, name: str, picture: Image, step: int) -> None:
        """Write a picture, such as a sheet of samples."""
        import numpy as np

        self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
