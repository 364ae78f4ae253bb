"""What makes a class a plugin, and what is wrong with one that is none."""

from __future__ import annotations

import inspect
import re
from typing import Any

from .access import Access
from .plugin import HOOKS, PROJECT, Options, Plugin, nearest

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
RESERVED = ("core", "sdcore", "installed")


def hook_methods(factory: type[Plugin]) -> dict[str, Any]:
    """Hook-named methods that a plugin class defines itself or inherits from another plugin class."""
    return {name: getattr(factory, name) for name in HOOKS if getattr(factory, name) is not getattr(Plugin, name)}


def check_class(loaded: Any, name: str) -> str | None:
    """What is wrong with a would-be plugin class, or None."""
    return check_body(loaded, name) or check_hooks(loaded)


def check_body(loaded: Any, name: str) -> str | None:
    """The same, its hooks left aside."""
    if not inspect.isclass(loaded):
        return f"its entry point gives {loaded!r}; it must name the Plugin subclass itself, not an instance"
    title = loaded.__qualname__
    if not issubclass(loaded, Plugin):
        return f"{title} is not a subclass of sdcore.Plugin"
    if loaded.name != name:
        return f"{title}.name is {loaded.name!r}, but its entry point is {name!r}; they must be equal"
    if not NAME.fullmatch(name) or name in RESERVED:
        return (
            f"{title}.name is {name!r}; it must be lower-case letters, digits and single hyphens, "
            f"and none of {', '.join(RESERVED)}"
        )
    options: Any = loaded.options
    if options is not None and not (inspect.isclass(options) and issubclass(options, Options)):
        return f"{title}.options must be a subclass of sdcore.Options, or None"
    access: Any = loaded.access
    if access is not None and not isinstance(access, Access):
        return f"{title}.access is {access!r}; it must be an sdcore.Access, or None"
    hashes: Any = loaded.__hash__  # a dataclass has its own, or None
    if hashes is not object.__hash__:
        return f"{title} must hash by identity: do not make it a dataclass or a pydantic model"
    return None


def check_hooks(loaded: type[Plugin]) -> str | None:
    """What is wrong with the hooks of a plugin class, or None."""
    title = loaded.__qualname__
    for hook, method in hook_methods(loaded).items():
        problem = _check_hook(hook, method)
        if problem:
            return f"{title}.{hook} {problem}"
    for attribute, value in inspect.getmembers(loaded):
        mark = getattr(value, f"{PROJECT}_impl", None)
        if mark and attribute not in HOOKS and not mark["optionalhook"]:
            hint = nearest(attribute, HOOKS)
            return f"{title}.{attribute} is marked with @hookimpl, but there is no such hook.{hint}"
    return None


def _check_hook(hook: str, method: Any) -> str | None:
    mark = getattr(method, f"{PROJECT}_impl", None)
    if not mark:
        return "has a hook's name but is not marked with @hookimpl"
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return "is async; hooks are plain functions"
    options = [name for name, value in mark.items() if value and name != "optionalhook"]
    if options:
        return f"is marked with @hookimpl({options[0]}=...); order the stages with before= and after= instead"
    expected, given = _parameters(getattr(Plugin, hook)), _parameters(method)
    if given != expected:
        return f"takes ({', '.join(given)}); it must take ({', '.join(expected)})"
    return None


def _parameters(method: Any) -> list[str]:
    return list(inspect.signature(method).parameters)
