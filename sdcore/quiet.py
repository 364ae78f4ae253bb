"""Keeping what transformers, diffusers, huggingface_hub and torch print away from the user's terminal.

Their notices (a missing torchvision, an unauthenticated request) and progress bars say nothing that a user of
sdcore can act on; what matters, sdcore says itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

LIBRARIES = ("transformers", "diffusers", "huggingface_hub")

_ENVIRONMENT = {
    **{f"{name}_VERBOSITY": "critical" for name in ("TRANSFORMERS", "DIFFUSERS", "HF_HUB")},
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
_WARNERS = r"(transformers|diffusers|huggingface_hub|accelerate|torch)(\.|$)"

_lock = threading.Lock()
_users = 0
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, these libraries log and warn nothing and show no progress bars; afterwards all is as it was.

    Levels, switches and warning filters belong to the process, so the first thread that comes in sets them and
    the last that leaves restores them. Also a decorator: ``@quiet()``.
    """
    global _users, _undo
    with _lock:
        _users += 1
        if _users == 1:
            _undo = _hush(importing=True)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _undo.close()


@contextmanager
def quiet_process() -> Iterator[None]:
    """The same for a whole program, from its start: nothing is imported for it.

    Environment variables reach the libraries when they are imported later; one that the user has set stays.
    """
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    with _hush(importing=False):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


def _hush(importing: bool) -> ExitStack:
    undo = ExitStack()
    undo.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=_WARNERS)
    for name in LIBRARIES:
        if importing:  # they set their own level when they are imported, so that comes first
            importlib.import_module(f"{name}.utils.logging")
        elif f"{name}.utils.logging" not in sys.modules:
            continue
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
        for was_on, on, off in _switches(name):
            if was_on():
                undo.callback(on)
                off()
    return undo


def _switches(name: str) -> Iterator[tuple[Callable[[], bool], Callable[[], None], Callable[[], None]]]:
    """(whether progress bars are on, turn them on, turn them off) of a library."""
    if name == "huggingface_hub":
        bars = importlib.import_module("huggingface_hub.utils.tqdm")
        if os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") is None:  # else it has no switch, and warns
            yield lambda: not bars.are_progress_bars_disabled(), bars.enable_progress_bars, bars.disable_progress_bars
    else:
        log = importlib.import_module(f"{name}.utils.logging")
        yield log.is_progress_bar_enabled, log.enable_progress_bar, log.disable_progress_bar
