"""Checks of the package and the class: metadata, hooks, importing, pickling."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ValidationError

from sdcore.discovery import GROUP
from sdcore.plugin import HOOKS, PROJECT, Options, Plugin
from sdcore.plugin_class import check_body, check_hooks, hook_methods

from .catalogue import check
from .fresh import in_fresh_process
from .outcome import Failed, NotApplicable
from .subject import Subject

_PREFIX = f"{PROJECT}-"


@check(
    1,
    "metadata",
    "the package names itself, one class, its licence, and the versions of sdcore that it fits",
    scope="plugin",
)
def metadata(subject: Subject) -> None:
    """One entry point that gives a Plugin subclass; sdcore with an upper bound; README and licence."""
    if subject.factory is None and subject.found.error:
        raise Failed(subject.found.error)
    if subject.factory is not None:
        problem = check_body(subject.factory, subject.name)
        if problem is None and subject.found.error and check_hooks(subject.factory) is None:
            problem = subject.found.error  # not of the class: a version, a name that two packages have
        if problem:
            raise Failed(problem)
        if not (subject.factory.__doc__ or "").strip():
            raise Failed(f"{subject.factory.__qualname__} has no docstring: `sdcore plugins info` shows it")
    if not subject.installed:
        return
    distribution = importlib.metadata.distribution(subject.found.distribution)
    missing = [*_missing(distribution), *_names(distribution, subject)]
    if missing:
        raise Failed("; ".join(missing))


def _missing(distribution: importlib.metadata.Distribution) -> list[str]:
    told: Any = distribution.metadata
    found = []
    bounds = [requirement.specifier for requirement in _needs_sdcore(distribution)]
    if not any(part.operator in ("<", "<=", "==", "~=") for bound in bounds for part in bound):
        found.append('no upper bound for sdcore: write dependencies = ["sdcore>=0.1,<0.2"]')
    if not (told.get("Summary") or "").strip():
        found.append("no description in pyproject.toml")
    if not (told.get("Description") or str(told.get_payload() or "")).strip():
        found.append('no README: write readme = "README.md" in pyproject.toml')
    if not (told.get("License-Expression") or told.get("License")) or not told.get_all("License-File"):
        found.append("no licence: write license and license-files in pyproject.toml")
    return found


def _needs_sdcore(distribution: importlib.metadata.Distribution) -> list[Requirement]:
    found = []
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() == PROJECT and requirement.marker is None:
            found.append(requirement)
    return found


def _names(distribution: importlib.metadata.Distribution, subject: Subject) -> list[str]:
    """One package may bring several plugins; one of them has the package's name."""
    if subject.factory is None:
        return []
    names = {entry.name for entry in distribution.entry_points if entry.group == GROUP}
    name = distribution.name.lower().replace("_", "-")
    if not name.startswith(_PREFIX):
        return [f"the package is called {distribution.name}; plugins are looked for as {_PREFIX}{subject.name}"]
    return [] if name.removeprefix(_PREFIX) in names else [f"none of {', '.join(sorted(names))} has the package's name"]


@check(2, "import", "importing it is quick and changes nothing in the process", scope="plugin")
def importing(subject: Subject) -> None:
    """In a fresh process: no large library is imported, no setting changed, no thread started."""
    told = _fresh(subject)
    if told["error"]:
        raise Failed(f"in a fresh process: {told['error']}")
    found = [f"{told['threads']} threads were started"] if told["threads"] else []
    if told["heavy"]:
        found.append(f"{', '.join(told['heavy'])} imported; import it where it is used, inside functions")
        told = _fresh(subject, after_torch=True)  # such libraries change settings too, which is not its doing
    found += [f"{change} is changed" for change in told.get("changes", ())]
    if found:
        raise Failed(f"when it is imported and an engine starts: {'; '.join(found)}")


@check(19, "hooks", "its hooks are marked, and are what the engine will call", scope="plugin")
def hooks(subject: Subject) -> None:
    """Marked, not async, with the specification's arguments; no method whose name is nearly that of a hook."""
    factory = _class(subject)
    problem = check_hooks(factory)
    if problem:
        raise Failed(problem)
    for name, method in hook_methods(factory).items():
        _check_annotations(factory, name, method)
    for name, value in vars(factory).items():
        if name.startswith("_") or name in HOOKS or hasattr(Plugin, name) or not inspect.isfunction(value):
            continue
        close = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.8)
        if close:
            raise Failed(
                f"{factory.__qualname__}.{name} is no hook, and is never called; did you mean {close[0]!r}? Else begin "
                "its name with an underscore"
            )


def _check_annotations(factory: type[Plugin], name: str, method: Any) -> None:
    wanted = inspect.signature(getattr(Plugin, name)).parameters
    for argument, parameter in inspect.signature(method).parameters.items():
        given = parameter.annotation
        if given is inspect.Parameter.empty:
            continue
        text = given if isinstance(given, str) else getattr(given, "__name__", str(given))
        expected = str(wanted[argument].annotation)
        if text.strip("'\"").rpartition(".")[2] != expected:
            raise Failed(f"{factory.__qualname__}.{name}({argument}: {text}): the engine gives a {expected}")


@check(21, "pickle", "the plugin can be made, and its options understood, in another process", scope="plugin")
def pickling(subject: Subject) -> None:
    """A worker process can construct the plugin, and unpickle options to the same."""
    sent = _pickles(subject)
    _class(subject)
    told = _fresh(subject)
    if told["error"]:
        raise NotApplicable("it cannot be imported there, of which `import` tells")
    for data, text in zip(sent, told["options"], strict=True):
        if pickle.loads(data).model_dump_json(fallback=str) != text:
            raise Failed(f"options came out of another process as {text}")


def _class(subject: Subject) -> type[Plugin]:
    if subject.factory is None:
        raise NotApplicable("it is no engine plugin")
    return subject.factory


def _pickles(subject: Subject) -> list[bytes]:
    kind = _class(subject).options
    if kind is None:
        return []
    try:
        given = [_options(kind, trial.case.options) for trial in subject.trials]
    except NotApplicable:
        given = []
    try:
        return list(dict.fromkeys(pickle.dumps(options) for options in given))
    except Exception as error:
        raise Failed(f"{kind.__qualname__} cannot be pickled: {error}") from error


def _options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise NotApplicable(f"the case {dict(values)} is refused: {error}") from None


def _fresh(subject: Subject, after_torch: bool = False) -> Mapping[str, Any]:
    """What a fresh process says of the plugin; asked once, as that takes half a second."""
    factory = subject.factory
    file = None if subject.installed or factory is None else _source(factory)
    key = (factory or subject.name, after_torch)
    if key not in _asked:
        try:
            pickles = [] if after_torch or factory is None else _pickles(subject)
        except Failed:
            pickles = []
        module, _, name = subject.found.origin.partition(":")
        if factory is not None:
            module, name = factory.__module__, factory.__qualname__
        _asked[key] = in_fresh_process(module, name, file, pickles, after_torch=after_torch)
    return _asked[key]


def _source(factory: type[Plugin]) -> str:
    if "<locals>" in factory.__qualname__:
        raise NotApplicable(f"{factory.__qualname__} is made in a function, so no other process can find it")
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        raise NotApplicable(f"{factory.__qualname__} is in no file, so no other process can find it")
    return file


_asked: dict[tuple[Any, bool], Mapping[str, Any]] = {}
