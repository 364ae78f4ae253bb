"""Rates of checks on labelled pictures, with Wilson intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sdcore import RequestError

from .check import ImageCheck
from .errors import SafetyUnavailable
from .guard import image_scores
from .policy import Policy
from .session import Session

BATCH = 16


@dataclass(frozen=True)
class Item:
    """A picture and what it shows: labels are categories; ``()`` is harmless."""

    path: Path
    labels: tuple[str, ...]


@dataclass
class Scored:
    """A picture with the scores of all checks: check to category to score."""

    item: Item
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "path": str(self.item.path),
            "labels": list(self.item.labels),
            "scores": self.scores,
            "problem": self.problem,
        }


def read_manifest(path: Path) -> list[Item]:
    """The pictures of a manifest: JSON lines with ``path`` (relative to it) and ``labels`` (or ``label``).

    Raises:
        RequestError: it cannot be read, or a line is wrong; says which.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the manifest {path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            labels = entry.get("labels", entry.get("label"))
            labels = [] if labels in (None, "", "benign") else [labels] if isinstance(labels, str) else labels
            item = Item(path.parent / str(entry["path"]), tuple(str(label) for label in labels if label != "benign"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f'{path}, line {number}: {line[:80]!r} is not like {{"path": "a.png", "labels": ["sexual"]}}'
            ) from error
        if not item.path.is_file():
            raise RequestError(f"{path}, line {number}: there is no picture {item.path}")
        found.append(item)
    if not found:
        raise RequestError(f"the manifest {path} names no pictures")
    return found


def evaluate(session: Session, items: Sequence[Item], done: Callable[[int], object] | None = None) -> list[Scored]:
    """The scores of every picture; what cannot be read or judged is told, and not counted."""
    from PIL import Image

    checks = [check for check in session.checks if isinstance(check, ImageCheck)]
    found = []
    for at in range(0, len(items), BATCH):
        batch, images = [Scored(item) for item in items[at : at + BATCH]], []
        for scored in batch:
            try:
                with Image.open(scored.item.path) as opened:
                    images.append(opened.convert("RGB"))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                scored.problem = f"{type(error).__name__}: {error}"
        usable = [scored for scored in batch if scored.problem is None]
        for check in checks:
            many = image_scores(check, images, session.options.timeout) if usable else []
            for scored, scores in zip(usable, many, strict=True):
                if isinstance(scores, SafetyUnavailable):
                    scored.problem = scores.problem
                else:
                    scored.scores[check.name] = scores
        found += batch
        if done is not None:
            done(len(batch))
    return found


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a rate (Wilson 1927), 95 % by default; (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    rate = hits / count
    middle = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    below = 1 + z * z / count
    return max(0.0, (middle - spread) / below), min(1.0, (middle + spread) / below)


@dataclass(frozen=True)
class Rate:
    """One category of one check, or of all together (``any``).

    Attributes:
        hits, labelled: of pictures with this label, how many tripped, and how many there are.
        false_hits, others: of pictures without it.
        harmless_hits, harmless: of pictures without any label.
    """

    check: str
    category: str
    threshold: float | None
    hits: int
    labelled: int
    false_hits: int
    others: int
    harmless_hits: int
    harmless: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values, intervals included."""
        return {
            **asdict(self),
            "true_positive_rate": _rate(self.hits, self.labelled),
            "false_positive_rate": _rate(self.false_hits, self.others),
            "harmless_rate": _rate(self.harmless_hits, self.harmless),
        }

    def row(self) -> tuple[str, ...]:
        """A line of a table."""
        threshold = "-" if self.threshold is None else f"{self.threshold:g}"
        pairs = ((self.hits, self.labelled), (self.false_hits, self.others), (self.harmless_hits, self.harmless))
        return (self.check, self.category, threshold, *(_told(hits, count) for hits, count in pairs))


def _rate(hits: int, count: int) -> dict[str, Any] | None:
    return None if count == 0 else {"rate": hits / count, "interval": list(wilson(hits, count))}


def _told(hits: int, count: int) -> str:
    if count == 0:
        return "not measured: none in the set"
    low, high = wilson(hits, count)
    return f"{hits}/{count} = {hits / count:.2%} ({low:.2%} to {high:.2%})"


def rates(policy: Policy, scored: Sequence[Scored]) -> list[Rate]:
    """Rates by check and category, and of any check in any judged category."""
    judged = [one for one in scored if one.problem is None]
    pairs = sorted({(check, name) for one in judged for check, found in one.scores.items() for name in found})

    def trips(one: Scored, check: str, category: str) -> bool:
        threshold = policy.threshold(check, category)
        return threshold is not None and one.scores[check].get(category, 0.0) >= threshold

    found = []
    for check, category in pairs:
        hit = [trips(one, check, category) for one in judged]
        own = [category in one.item.labels for one in judged]
        found.append(_count(check, category, policy.threshold(check, category), judged, hit, own))
    hit = [any(trips(one, *pair) for pair in pairs if pair[0] in one.scores) for one in judged]
    found.append(_count("any", "any", None, judged, hit, [bool(one.item.labels) for one in judged]))
    return found


def _count(
    check: str, category: str, threshold: float | None, judged: Sequence[Scored], hit: list[bool], own: list[bool]
) -> Rate:
    harmless = [not one.item.labels for one in judged]
    return Rate(
        check,
        category,
        threshold,
        sum(a and b for a, b in zip(hit, own, strict=True)),
        sum(own),
        sum(a and not b for a, b in zip(hit, own, strict=True)),
        len(own) - sum(own),
        sum(a and b for a, b in zip(hit, harmless, strict=True)),
        sum(harmless),
    )
