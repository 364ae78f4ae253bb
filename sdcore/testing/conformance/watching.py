"""What a run does to the process around it: random states, settings, classes. As snapshots that can be compared."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .setting import fingerprint

if TYPE_CHECKING:
    from sdcore.result import Result

    from .setting import Setting

_ABSENT = object()
_NOT_THEIRS = ("PYTEST_", "['LD_LIBRARY_PATH']", "['QT_")
"""Variables that test runners and OpenCV set: no plugin that uses these can help it."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A run and its traces.

    Attributes:
        random: names of global random generators that were used.
        settings: settings of the process that were changed, as text.
        patches: attributes of shared classes that were replaced, as text.
        model: whether the model was changed.
    """

    given: Result | None
    error: Exception | None
    random: tuple[str, ...]
    settings: tuple[str, ...]
    patches: tuple[str, ...]
    model: bool

    def result(self) -> Result:
        """What the run gave, or raises what it raised."""
        if self.error is not None:
            raise self.error
        assert self.given is not None
        return self.given


def watch(run: Callable[[], Result], setting: Setting) -> Watched:
    """Carry out a run between snapshots. What it changed is put back, so that other checks see a clean process."""
    setting.plain()  # what every run imports and sets is not the plugin's doing
    classes = shared_classes(setting)
    before = fingerprint(setting.model)
    generators, settings, attributes = random_states(), process_settings(), class_attributes(classes)
    given, error = None, None
    try:
        given = run()
    except Exception as raised:  # noqa: BLE001 - raised again by whoever asks for the result
        error = raised
    used = changed(generators, random_states())
    after = process_settings()
    moved = [
        f"{name}: {_short(settings.get(name))} became {_short(after.get(name))}" for name in changed(settings, after)
    ]
    restore_settings(settings)
    patches = restore_classes(attributes, classes)
    touched = fingerprint(setting.model) != before
    if touched:
        setting.renew()
    return Watched(given, error, tuple(used), tuple(moved), tuple(patches), touched)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names whose values differ, or that came or went."""
    return [name for name in {**before, **after} if before.get(name, _ABSENT) != after.get(name, _ABSENT)]


def random_states() -> dict[str, str]:
    """Digests of the global random generators, by name."""
    import torch

    found = {"random": repr(random.getstate()).encode(), "torch": torch.get_rng_state().numpy().tobytes()}
    if "numpy" in sys.modules:
        found["numpy.random"] = repr(sys.modules["numpy"].random.get_state()).encode()
    if torch.cuda.is_available():
        found["torch.cuda"] = b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return {name: hashlib.sha256(state).hexdigest() for name, state in found.items()}


def process_settings() -> dict[str, Any]:
    """Settings that belong to the process; torch's only if it is loaded."""
    root = logging.getLogger()
    found: dict[str, Any] = {f"os.environ[{key!r}]": value for key, value in os.environ.items()}
    found["warnings.filters"] = list(warnings.filters)
    found["logging: handlers and level of the root logger"] = ([id(item) for item in root.handlers], root.level)
    found["current directory"] = os.getcwd()
    found["sys.path"] = list(sys.path)
    if "torch" in sys.modules:
        import torch

        found["torch.get_default_dtype()"] = torch.get_default_dtype()
        found["torch.get_num_threads()"] = torch.get_num_threads()
        found["torch.is_grad_enabled()"] = torch.is_grad_enabled()
        found["torch.are_deterministic_algorithms_enabled()"] = torch.are_deterministic_algorithms_enabled()
        for name in ("benchmark", "deterministic", "enabled", "allow_tf32"):
            found[f"torch.backends.cudnn.{name}"] = getattr(torch.backends.cudnn, name)
        found["torch.backends.cuda.matmul.allow_tf32"] = torch.backends.cuda.matmul.allow_tf32
    return {name: value for name, value in found.items() if not any(own in name for own in _NOT_THEIRS)}


def restore_settings(before: Mapping[str, Any]) -> None:
    """Put back those settings that would change what other checks see."""
    now = process_settings()
    for name in changed(before, now):
        if name.startswith("os.environ"):
            key = name[len("os.environ['") : -2]
            os.environ.pop(key, None)
            os.environ.update({key: before[name]} if name in before else {})
        elif name == "warnings.filters":
            warnings.filters[:] = before[name]  # type: ignore[index]
        elif name == "current directory":
            os.chdir(before[name])
        elif name == "sys.path":
            sys.path[:] = before[name]
        elif name.startswith("torch.") and name in before:
            _restore_torch(name, before[name])


def _restore_torch(name: str, value: Any) -> None:
    import torch

    setters: dict[str, Callable[[Any], object]] = {
        "torch.get_default_dtype()": torch.set_default_dtype,
        "torch.get_num_threads()": torch.set_num_threads,
        "torch.is_grad_enabled()": torch.set_grad_enabled,
        "torch.are_deterministic_algorithms_enabled()": torch.use_deterministic_algorithms,
        "torch.backends.cuda.matmul.allow_tf32": lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", on),
    }
    known = name.removeprefix("torch.backends.cudnn.")
    setters.get(name, lambda on: setattr(torch.backends.cudnn, known, on))(value)


# -- classes ------------------------------------------------------------------------------------------------------


def shared_classes(setting: Setting) -> list[Any]:
    """Classes and modules that everybody in a process shares: of the model's networks, of torch, Pillow and sdcore."""
    import torch
    from PIL import Image

    from sdcore.engine import Engine
    from sdcore.run import Run

    found: dict[Any, None] = dict.fromkeys((torch.Tensor, torch.nn.functional, Image.Image, Engine, Run))
    for component in setting.model.components.values():
        for module in component.modules():
            found |= dict.fromkeys(kind for kind in type(module).__mro__ if kind is not object)
    return list(found)


def class_attributes(classes: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The attributes of classes, by class."""
    return {kind: dict(vars(kind)) for kind in classes}


def restore_classes(before: Mapping[Any, Mapping[str, Any]], classes: Iterable[Any]) -> list[str]:
    """Put back what was replaced in classes, and tell of it."""
    told = []
    for kind in classes:
        now = dict(vars(kind))
        for name in {**before[kind], **now}:
            old, new = before[kind].get(name, _ABSENT), now.get(name, _ABSENT)
            if old is new or (name.startswith("__") and name not in ("__call__", "__init__", "__getattr__")):
                continue
            if old is _ABSENT and not callable(new):
                continue  # libraries keep caches on their classes
            told.append(f"{getattr(kind, '__module__', '')}.{kind.__name__}.{name}".lstrip("."))
            if old is _ABSENT:
                delattr(kind, name)
            else:
                setattr(kind, name, old)
    return told


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
