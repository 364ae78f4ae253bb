"""Subject: one plugin under check on one tier; Trial: one of its cases on one setting."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdcore.discovery import GIVEN, PluginRecord
from sdcore.plugin import Plugin
from sdcore.plugin_class import hook_methods
from sdcore.uses import Use

from .case import Case
from .outcome import NotApplicable, Outcome
from .setting import EMBEDDED, Setting, setting_of

if TYPE_CHECKING:
    from sdcore.engine import Engine
    from sdcore.result import Result

    from .base import PluginConformance

ENGINE_ONLY = frozenset({"register"})
"""Hooks that take no part in a run."""


class Subject:
    """A plugin under check.

    Attributes:
        spec: what its author says of it.
        found: what is installed under its name, or the class that was given.
        factory: the class, also if it is no proper plugin; None where there is none.
        outcomes: of the checks that were carried out.
        unused: requests that were carried out with the plugin loaded and not used.
    """

    def __init__(
        self,
        spec: PluginConformance,
        found: PluginRecord,
        tier: str = "cpu",
        factory: type[Plugin] | None = None,
        model: str | None = None,
        device: str | None = None,
    ) -> None:
        self.spec = spec
        self.found = found
        self.name = found.name
        self.tier = tier
        self.factory = factory or found.factory
        self.outcomes: dict[str, Outcome] = {}
        self.unused: set[str] = set()
        self._model = model
        self._device = device or ("cuda" if tier == "gpu" else "cpu")

    @property
    def installed(self) -> bool:
        """Whether it is in a package, not a class from a file."""
        return self.found.distribution != GIVEN

    @property
    def draws(self) -> bool:
        """Whether it takes part in runs."""
        return self.factory is not None and bool(set(hook_methods(self.factory)) - ENGINE_ONLY)

    @functools.cached_property
    def settings(self) -> tuple[Setting, ...]:
        """What it is checked on.

        Raises:
            NotApplicable: this tier has none here.
        """
        if self.tier == "weights":
            from sdcore.errors import ModelError

            try:
                return (setting_of(EMBEDDED, self._device, self._model),)
            except ModelError as error:
                raise NotApplicable(str(error)) from None
        if self._device.startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise NotApplicable("this machine has no CUDA device")
        return tuple(setting_of(family, self._device) for family in self.spec.families)

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Every case on every setting.

        Raises:
            NotApplicable: there are none here.
        """
        if self.found.error and not self.draws:
            raise NotApplicable(f"it cannot be loaded: {self.found.error}")
        if not self.draws:
            what = "it is no engine plugin" if self.factory is None else "it takes no part in drawing pictures"
            raise NotApplicable(what)
        found = [Trial(self, setting, case) for setting in self.settings for case in self.spec.cases(setting)]
        if not found:
            raise NotApplicable(self.spec.no_cases or "no case is given for this tier")
        return tuple(found)

    @property
    def chosen(self) -> type[Plugin]:
        """The class, where there must be one."""
        assert self.factory is not None
        return self.factory

    def engine(self, setting: Setting, *others: type[Plugin], by_name: bool = False) -> Engine:
        """A new engine with the plugin, and others.

        ``by_name``: as users load what is installed; without it the class is given, as looking through all packages
        takes as long as a run.
        """
        from sdcore.engine import Engine

        wanted: Any = self.name if by_name and self.installed else self.chosen
        return Engine(setting.model, plugins=[wanted, *others])


@dataclass(eq=False)
class Trial:
    """One case on one setting, with the runs that several checks look at.

    Attributes:
        subject, setting, case: what is tried.
    """

    subject: Subject
    setting: Setting
    case: Case
    _engine: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The plugin's."""
        return self.subject.name

    @property
    def engine(self) -> Engine:
        """An engine that all checks of this trial share."""
        if self._engine is None:
            self._engine = self.subject.engine(self.setting, by_name=True)
        found: Engine = self._engine
        return found

    def use(self, **options: Any) -> Use:
        """The case's entry of ``use``, with some options changed."""
        return Use(plugin=self.name, options={**self.case.options, **options})

    def request(self, **fields: Any) -> dict[str, Any]:
        """The fields of its request, but for ``use``."""
        return self.setting.request(**{**self.case.request, **fields})

    def run(self, *, on: Engine | None = None, use: Sequence[Any] | None = None, **fields: Any) -> Result:
        """Carry the case out."""
        engine = self.engine if on is None else on
        on_event = fields.pop("on_event", None)
        return engine.generate(
            **self.request(**fields), use=[self.use()] if use is None else list(use), on_event=on_event
        )

    def plain(self) -> Result:
        """The same request without the plugin."""
        return self.setting.plain(**self.case.request)

    @functools.cached_property
    def watched(self) -> Any:
        """The first run, and what it did to the process; see `sdcore.testing.conformance.watching`."""
        from .watching import watch

        return watch(self.run, self.setting)

    @property
    def first(self) -> Result:
        """What the first run gave.

        Raises:
            Exception: what the run raised.
        """
        result: Result = self.watched.result()
        return result

    def __str__(self) -> str:
        return f"{self.setting}, {self.case}"
