"""Every two plugins of this repository in one request, on every family: which pairs there are, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sdcore import Engine, Use
from sdcore.result import Result
from sdcore.testing import Case, Setting
from sdcore.testing.conformance.finding import find
from sdcore.testing.conformance.setting import FAMILIES

PLUGINS = (
    "controlnet",
    "credentials",
    "inpaint",
    "lora",
    "outpaint",
    "safety",
    "template",
    "textual-inversion",
    "watermark",
)
"""Those that take part in drawing; a test compares with what is installed."""
REFUSED: Mapping[frozenset[str], str] = {
    frozenset(("inpaint", "outpaint")): "it cannot share a run with outpaint; enlarge the canvas first",
}
"""Pairs that cannot be, with the reason that the error gives."""
TOGETHER: Mapping[frozenset[str], Mapping[str, Mapping[str, Any]]] = {
    # A control picture belongs to the whole canvas, and the case's is as large as the picture that grows.
    frozenset(("controlnet", "outpaint")): {"controlnet": {"resize": "stretch"}},
}
"""Options that a pair needs beyond those of its cases, as the error without them says."""
SIZE = 64
"""The least that a watermark needs."""


@dataclass(frozen=True)
class Pair:
    """Two plugins on a family, each with the first of the cases that its own package checks it with."""

    family: str
    one: str
    other: str

    def __str__(self) -> str:
        return f"{self.family}-{self.one}-{self.other}"

    def request(self, *names: str) -> dict[str, Any]:
        """The request that suits both, with these of them in ``use``. Of two pictures the first is taken."""
        fields: dict[str, Any] = {}
        for name in (self.other, self.one):
            fields |= _case(self.family, name).request
        if "image" in fields:
            fields = {key: value for key, value in fields.items() if key not in ("height", "width")}
        added = TOGETHER.get(frozenset((self.one, self.other)), {})
        use = [Use(plugin=name, options={**_case(self.family, name).options, **added.get(name, {})}) for name in names]
        return setting(self.family).request(**fields, use=use)


PAIRS = tuple(Pair(family, *pair) for family in FAMILIES for pair in combinations(PLUGINS, 2))


@functools.cache
def setting(family: str) -> Setting:
    """A small model of a family."""
    return Setting(family, None, "cpu", SIZE)


@functools.cache
def _case(family: str, name: str) -> Case:
    return next(iter(find(name).spec.cases(setting(family))))


@functools.cache
def engine(family: str) -> Engine:
    """One for all pairs of a family."""
    return Engine(setting(family).model, plugins=list(PLUGINS))


def carried_out(pair: Pair, *names: str) -> Result:
    """The pair's request with these of its plugins."""
    return engine(pair.family).generate(**pair.request(*names))


def page() -> str:
    """The matrix, for docs/composition.md."""
    text = (
        "\n## Every two plugins\n\nEach pair of plugins of this repository is one request, on SD1, SD2 and SDXL: it "
        "runs, on SD1 it gives the same bits again, and what each of the two does shows beside the other. "
    )
    text += "✓: so on all three.\n\n| | " + " | ".join(PLUGINS[1:]) + " |\n|---|" + "---|" * (len(PLUGINS) - 1) + "\n"
    for row, one in enumerate(PLUGINS[:-1]):
        cells = ["" if column <= row else _mark(one, other) for column, other in enumerate(PLUGINS) if column]
        text += f"| {one} | {' | '.join(cells)} |\n"
    return text + "".join(f"\n* {' and '.join(sorted(pair))}: {reason}" for pair, reason in REFUSED.items())


def _mark(one: str, other: str) -> str:
    return "refused" if frozenset((one, other)) in REFUSED else "✓"
