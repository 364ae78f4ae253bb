"""Every error that sdcore raises on purpose.

Each message says what was wrong, with the value, and what to do next. Nothing here imports anything.
"""

from __future__ import annotations


class SdcoreError(Exception):
    """Base of all errors of sdcore: ``except SdcoreError`` catches what is not a bug."""


class RequestError(SdcoreError, ValueError):
    """The request cannot be carried out: a field is unknown, out of range or contradicts another."""


class ImageError(RequestError):
    """A picture given as input cannot be used: truncated, of an impossible size, not a picture."""


class ModelError(SdcoreError):
    """A model cannot be loaded: not found, truncated, of a family or layout that is not known."""


class ConflictError(SdcoreError):
    """Two plugins of one run contradict each other: a double claim, or a cycle in their order."""


class OutputError(SdcoreError, OSError):
    """A result cannot be written: the name is taken, the folder is not writable, the disk is full."""


class RecordError(SdcoreError, ValueError):
    """A record is missing from a picture, was tampered with, or cannot be replayed here."""


class OutOfMemoryError(SdcoreError, MemoryError):
    """The run did not fit into memory, also with a smaller batch."""


class Cancelled(SdcoreError):
    """The run was cancelled by ``run.cancel()``; the engine is clean and usable."""


class Withheld(SdcoreError):
    """A safety verdict withheld everything that the run would have returned.

    Attributes:
        verdicts: the verdicts that led to it, most severe first.
    """

    def __init__(self, message: str, verdicts: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.verdicts = verdicts


class PluginLoadError(SdcoreError):
    """An installed plugin is broken, blocked, too old or ambiguous, and the caller asked for it."""


class PluginError(SdcoreError):
    """A plugin raised an exception, or broke the law of a port.

    Attributes:
        plugin: entry-point name of the plugin.
        version: distribution and version, such as ``"sdcore-lora 0.1.0"``.
        where: the hook or port, such as ``"step.latents_out"``.
        step: index of the denoising step, or None outside the loop.
    """

    def __init__(self, plugin: str, version: str, where: str, problem: str, step: int | None = None) -> None:
        at = "" if step is None else f" at step {step}"
        super().__init__(
            f"plugin {plugin!r} ({version}) failed in {where}{at}: {problem}. "
            f"The engine is clean. To go on without it, leave it out of `use`, or set SDCORE_DISABLE={plugin}."
        )
        self.plugin = plugin
        self.version = version
        self.where = where
        self.step = step
