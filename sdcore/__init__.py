"""sdcore: a small Stable Diffusion engine whose every feature is a plugin.

Names are resolved when they are first used: importing sdcore imports neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import ports as ports
    from .access import Access as Access
    from .engine import Engine as Engine
    from .errors import Cancelled as Cancelled
    from .errors import ConflictError as ConflictError
    from .errors import ImageError as ImageError
    from .errors import ModelError as ModelError
    from .errors import OutOfMemoryError as OutOfMemoryError
    from .errors import OutputError as OutputError
    from .errors import PluginError as PluginError
    from .errors import PluginLoadError as PluginLoadError
    from .errors import RecordError as RecordError
    from .errors import RequestError as RequestError
    from .errors import SdcoreError as SdcoreError
    from .errors import Withheld as Withheld
    from .planning import Change as Change
    from .planning import Problem as Problem
    from .plugin import Asset as Asset
    from .plugin import Options as Options
    from .plugin import Plugin as Plugin
    from .plugin import hookimpl as hookimpl
    from .ports import Contribution as Contribution
    from .ports import Contributions as Contributions
    from .record import Record as Record
    from .registry import Registry as Registry
    from .replay import Replay as Replay
    from .replay import replay_picture as replay_picture
    from .request import GenerateRequest as GenerateRequest
    from .request import Use as Use
    from .result import Result as Result
    from .run import Run as Run
    from .schedulers import SchedulerSpec as SchedulerSpec
    from .stages import Branch as Branch
    from .stages import Conditioning as Conditioning
    from .stages import SidePath as SidePath
    from .stages import Site as Site
    from .stages import Step as Step
    from .stages import Verdict as Verdict
    from .stages import WeightPatch as WeightPatch
    from .stages import Word as Word
    from .stash import StateKey as StateKey
    from .trace import Trace as Trace
    from .verifying import Finding as Finding
    from .verifying import Verification as Verification
    from .verifying import Verifier as Verifier
    from .verifying import verify as verify

_HOME = {
    "access": ("Access",),
    "engine": ("Engine",),
    "errors": (
        "Cancelled",
        "ConflictError",
        "ImageError",
        "ModelError",
        "OutOfMemoryError",
        "OutputError",
        "PluginError",
        "PluginLoadError",
        "RecordError",
        "RequestError",
        "SdcoreError",
        "Withheld",
    ),
    "planning": ("Change", "Problem"),
    "plugin": ("Asset", "Options", "Plugin", "hookimpl"),
    "ports": ("Contribution", "Contributions"),
    "record": ("Record",),
    "registry": ("Registry",),
    "replay": ("Replay", "replay_picture"),
    "request": ("GenerateRequest", "Use"),
    "result": ("Result",),
    "run": ("Run",),
    "schedulers": ("SchedulerSpec",),
    "stages": ("Branch", "Conditioning", "SidePath", "Site", "Step", "Verdict", "WeightPatch", "Word"),
    "stash": ("StateKey",),
    "verifying": ("Finding", "Verification", "Verifier", "verify"),
    "trace": ("Trace",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", "ports", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .discovery import sdcore_version

        return sdcore_version()
    if name == "ports":
        return importlib.import_module(".ports", __name__)
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'sdcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
