"""PluginConformance: what the author of a plugin says of it, and the class of tests that comes of that.

It needs no pytest to be imported: ``sdcore check`` reads the same class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .case import Case
from .setting import FAMILIES

if TYPE_CHECKING:
    from sdcore.plugin import Plugin

    from .setting import Setting


class PluginConformance:
    """Subclass it to have a plugin checked::

        class TestGlow(PluginConformance):
            plugin = "glow"
            options = [{"strength": 0.5}]

    pytest makes one test of every check. A package whose plugin needs more than options in a line (files, a picture)
    has the subclass in its module ``conformance``, where ``sdcore check`` finds it, and ``class TestGlow(Glow): ...``
    in its tests.

    Attributes:
        plugin: its name; or the class, for one that is not installed.
        options: options to check it with, as in JSON; each is a case.
        neutral: options, over those of a case, with which it changes nothing: ``{"strength": 0}``.
        request: fields of the request that it needs.
        families: what it is checked on; most checks look at the first only.
        exceptions: name of a check to the reason why the plugin does not pass it. A reason is shown wherever
            outcomes are; an exception for a check that passes is an error.
        no_cases: why there is no case where `cases` gives none.
    """

    plugin: ClassVar[str | type[Plugin]] = ""
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    neutral: ClassVar[Mapping[str, Any] | None] = None
    request: ClassVar[Mapping[str, Any]] = {}
    families: ClassVar[Sequence[str]] = FAMILIES
    exceptions: ClassVar[Mapping[str, str]] = {}
    no_cases: ClassVar[str] = ""

    def cases(self, setting: Setting) -> Iterable[Case]:
        """The cases on a setting: override it for files, which go into ``setting.folder``, and for pictures."""
        return [Case(dict(given), neutral=self.neutral, request=self.request) for given in self.options]

    # -- pytest ---------------------------------------------------------------------------------------------------

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """One test for every check of every tier."""
        if "sdcore_check" not in metafunc.fixturenames:
            return
        import pytest

        from .catalogue import TIERS, checks

        found = [
            pytest.param(
                (tier, check.name), id=f"{tier}-{check.name}", marks=[pytest.mark.gpu] if tier == "gpu" else []
            )
            for tier in TIERS
            for check in checks().values()
            if tier in check.tiers
        ]
        metafunc.parametrize("sdcore_check", found)

    def test_conformance(self, sdcore_check: tuple[str, str]) -> None:
        """Carry one check out."""
        import pytest

        from .catalogue import checks
        from .finding import subject_of
        from .running import run_check

        __tracebackhide__ = True
        tier, name = sdcore_check
        kind: Any = type(self)
        outcome = run_check(subject_of(kind, tier), checks()[name])
        if outcome.state == "failed":
            pytest.fail(f"{name} ({checks()[name].title}): {outcome.detail}", pytrace=False)
        elif outcome.state != "passed":
            pytest.skip(f"{outcome.state}: {outcome.detail}")
