"""A plugin in one file, without a package: ``--plugin glow.py``."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path

from sdcore.errors import PluginLoadError
from sdcore.plugin import Plugin


def read_plugins(file: str) -> list[type[Plugin]]:
    """Run a Python file, and return the plugins that it defines.

    Raises:
        PluginLoadError: there is no such file, it raises, or it defines no plugin.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise PluginLoadError(f"--plugin {file}: there is no such file")
    # In sys.modules, because pydantic, inspect and pickle look there; under a name that no import can ask for, and
    # without a dot, which pickle would take for a package.
    own = path.name.replace(".", "-")
    name, number = own, 1
    while name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(path.resolve()):
        number += 1
        name = f"{own}-{number}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise PluginLoadError(f"--plugin {file}: not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
        ]
        where = f", line {lines[-1]}" if lines else ""
        raise PluginLoadError(f"--plugin {file}{where}: {type(error).__name__}: {error}") from error
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Plugin) and value.__module__ == name
    ]
    if not found:
        raise PluginLoadError(f"--plugin {file}: it defines no subclass of sdcore.Plugin")
    return found
