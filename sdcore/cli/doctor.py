"""``sdcore doctor``: is everything here that is needed, and does it work?"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from sdcore.errors import SdcoreError

from .terminal import say

Finding = tuple[str, str]
"""("ok", "warn" or "fail", what was found)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model to try."""
    parser.add_argument("--model", metavar="SRC", help="the model to try; default: the installed one")


def run(args: argparse.Namespace) -> int:
    """Print a line for every check; 1 if one of them failed."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("libraries", _libraries),
        ("devices", _devices),
        ("plugins", _plugins),
        ("models", _models),
        ("cache", _cache),
        ("picture", lambda: _picture(args.model)),
    ]
    failed = False
    for name, check in checks:
        try:
            found = list(check())
        except Exception as error:  # noqa: BLE001 - finding out what is broken is what this is for
            found = [("fail", f"{type(error).__name__}: {error}")]
        for state, text in found:
            failed = failed or state == "fail"
            say(f"{state:<4}  {name:<9}  {text}")
    return int(failed)


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, sdcore {_version('sdcore')}"
    yield "ok" if sys.version_info >= (3, 11) else "fail", found


def _libraries() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires("sdcore") or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        version = _version(need.name)
        if version is None:
            yield "fail", f"{need.name} is not installed: pip install '{need.name}{need.specifier}'"
        elif not need.specifier.contains(version, prereleases=True):
            yield "fail", f"{need.name} {version} is here, {need.specifier} is needed"
        elif need.name in ("torch", "diffusers", "transformers"):
            yield "ok", f"{need.name} {version}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield "ok", f"cpu: {torch.get_num_threads()} of {os.cpu_count()} threads, {capability}"
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield "ok", f"cuda:{number}: {about.name}, {about.total_memory / 2**30:.1f} GiB"


def _plugins() -> Iterator[Finding]:
    from sdcore.host import PluginHost

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = list(PluginHost().records.values())
    for record in records:
        if record.error:
            yield "warn", f"{record.name} ({record.label}): {record.error}"
    good = [record.name for record in records if not record.error]
    yield "ok", f"{len(good)} can be used{': ' if good else ''}{', '.join(good)}"


def _models() -> Iterator[Finding]:
    from sdcore.models import default_of, installed_models

    found = installed_models()
    default = default_of(found)
    if not found:
        yield "warn", "none is installed: pip install sdcore-mini, or name one with --model"
    for model in found:
        state = "ok" if model.error is None else "warn"
        used = ", used where none is named" if len(found) > 1 and model == default else ""
        yield state, f"{model.name} ({model.distribution}){f': {model.error}' if model.error else used}"
    if len(found) > 1 and default is None:
        yield "warn", f"{len(found)} are installed: name one with --model or SDCORE_MODEL"


def _cache() -> Iterator[Finding]:
    from sdcore.files import check_writable
    from sdcore.models.hashes import cache_file

    folder = cache_file().parent
    place = folder
    while not place.exists():  # it is made when it is first needed
        place = place.parent
    try:
        check_writable(place / f".sdcore-check-{os.getpid()}")
        yield "ok", f"{folder} can be written"
    except SdcoreError as error:
        yield "warn", f"hashes of models will be computed anew each time: {error}"


def _picture(source: str | None) -> Iterator[Finding]:
    import time

    from sdcore.engine import Engine
    from sdcore.models import installed_models

    if source is None and not installed_models():
        return
    start = time.perf_counter()
    with Engine.load(source, plugins=()) as engine:
        loaded = time.perf_counter()
        result = engine.generate("a test", seed=0, steps=1)
        drawn = time.perf_counter()
        result.pictures[0].encode()
        size, device = f"{result.image.width}x{result.image.height}", engine.model.device
    times = f"loaded in {loaded - start:.1f} s, one step in {drawn - loaded:.1f} s"
    yield "ok", f"{Path(result.record.model.source).name}: {size} on {device}; {times}"
