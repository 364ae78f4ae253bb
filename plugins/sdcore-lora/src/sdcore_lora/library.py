"""The files of one engine: read once, kept while they are the same on disk, a bounded number of them."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .binding import Binding, Plan, bind, plan_of
from .contents import Contents, read_contents
from .files import Opened, open_lora, read_tensors, stamp_of

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.models import Model

MOST = 8


@dataclass
class Entry:
    """A file and what it is for the model. Tensors are read when they are first needed."""

    opened: Opened
    contents: Contents
    binding: Binding
    plan: Plan
    what: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tensors: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the file.

        Raises:
            ModelError: a file is damaged, or a tensor holds NaN or infinity.
        """
        with self._lock:
            if self._tensors is None:
                self._tensors = read_tensors(self.opened, self.what)
            return self._tensors

    def digest(self) -> tuple[str, ...]:
        """What tells this file from others, whatever its name is."""
        from sdcore.models.hashes import of_file

        return tuple(of_file(path) for path in self.opened.files)


class Library:
    """Entries by path, size and time of change; the least used are forgotten. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Any, ...], Entry] = OrderedDict()
        self._model: Callable[[], Any] = lambda: None
        self._plan: Plan | None = None

    def entry(self, path: str, model: Model, allow_pickle: bool = False) -> Entry:
        """The entry of a file, read if it is new or has changed.

        Raises:
            ModelError: it cannot be read, saying why.
        """
        stamp = (stamp_of(path), allow_pickle)
        with self._lock:
            plan = self._plan_of(model)
            found = self._entries.get(stamp)
            if found is None:
                found = self._entries[stamp] = read_entry(path, plan, allow_pickle)
            self._entries.move_to_end(stamp)
            while len(self._entries) > MOST:
                self._entries.popitem(last=False)
        return found

    def __len__(self) -> int:
        return len(self._entries)

    def _plan_of(self, model: Model) -> Plan:
        if self._plan is None or self._model() is not model:
            self._entries.clear()
            self._model, self._plan = weakref.ref(model), plan_of_model(model)
        return self._plan


def plan_of_model(model: Model) -> Plan:
    """The modules of a loaded model that a LoRA may change."""
    layers: Any = model.unet.config.layers_per_block
    return plan_of(model.family, model.components, int(layers if isinstance(layers, int) else layers[0]))


def read_entry(path: str | Path, plan: Plan, allow_pickle: bool = False) -> Entry:
    """Read a file's header, and find where its layers belong.

    Raises:
        ModelError: it cannot be read, saying why.
    """
    opened = open_lora(path, allow_pickle)
    contents = read_contents(
        opened.shapes,
        opened.metadata,
        opened.settings,
        layers_per_block=plan.layers_per_block,
        modules=plan.modules,
    )
    return Entry(opened, contents, bind(contents, plan, str(path)), plan, str(path))
