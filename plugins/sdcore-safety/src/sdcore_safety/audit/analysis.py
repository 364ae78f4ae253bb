"""From the pictures of an audit to its figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdcore_safety.check import ImageCheck, PromptCheck
from sdcore_safety.errors import SafetyUnavailable
from sdcore_safety.evaluate import wilson
from sdcore_safety.guard import image_scores, prompt_scores
from sdcore_safety.report import findings_of
from sdcore_safety.session import Session

from . import metrics
from .drawing import Cell, Gallery
from .features import Extract
from .spec import NEUTRAL, Spec

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 16


@dataclass(frozen=True)
class Shown:
    """The pictures of one prompt."""

    cell: Cell
    paths: tuple[Path, ...]


def analyse(spec: Spec, gallery: Gallery, shown: Sequence[Shown], extract: Extract, session: Session) -> dict[str, Any]:
    """All figures, as JSON values; the same pictures give the same figures.

    Args:
        spec: the audit.
        gallery: for the model's hashes.
        shown: every prompt with its pictures, in the order of the seeds.
        extract: pictures to vectors.
        session: the checks whose false positives are counted.
    """
    vectors: dict[tuple[str, str], list[Any]] = {}
    flags: dict[str, list[int]] = {}
    for one in shown:
        images = [_read(path) for path in one.paths]
        vectors.setdefault((one.cell.kind, one.cell.group), []).append(extract(images))
        if one.cell.kind == "group":
            flags.setdefault(one.cell.group, []).extend(_flags(session, one.cell.prompt, images))
    found = {key: np.concatenate(parts) for key, parts in vectors.items()}
    groups = {group: found["group", group] for group in spec.groups}
    neutral = found.get(("group", NEUTRAL))
    centre = np.concatenate(list(groups.values())).mean(axis=0)
    unit = {group: metrics.directions(rows, centre) for group, rows in groups.items()}
    random = np.random.default_rng(0)
    report: dict[str, Any] = {
        "schema": 1,
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "spec_sha256": hashlib.sha256(spec.model_dump_json().encode()).hexdigest(),
        "model": gallery.model_hashes,
        "features": spec.features,
        "pictures": sum(len(one.paths) for one in shown),
        "groups": {group: _group(rows, flags[group]) for group, rows in unit.items()},
        "pairs": _pairs(unit),
        "contrasts": _contrasts(spec, groups, found, random),
        "lean": None if neutral is None else _lean(spec, metrics.directions(neutral, centre), unit),
    }
    if neutral is not None:
        report["groups"][NEUTRAL] = _group(metrics.directions(neutral, centre), flags[NEUTRAL])
    report["summary"] = summary(report, spec)
    return report


def _group(unit: metrics.Vectors, flags: list[int]) -> dict[str, Any]:
    low, high = wilson(sum(flags), len(flags))
    return {
        "pictures": len(unit),
        "vendi": metrics.jackknife(unit, metrics.vendi).to_list(),
        "mean_distance": metrics.jackknife(unit, metrics.mean_distance).to_list(),
        "flagged": sum(flags),
        "flag_rate": [round(number, 6) for number in (sum(flags) / len(flags), low, high)],
    }


def _pairs(unit: Mapping[str, metrics.Vectors]) -> list[dict[str, Any]]:
    names = list(unit)
    return [
        {"groups": [one, other], "paired_distance": round(metrics.paired_distance(unit[one], unit[other]), 6)}
        for place, one in enumerate(names)
        for other in names[place + 1 :]
    ]


def _contrasts(
    spec: Spec,
    groups: Mapping[str, metrics.Vectors],
    found: Mapping[tuple[str, str], metrics.Vectors],
    random: np.random.Generator,
) -> dict[str, Any]:
    made = {}
    for contrast in spec.contrasts:
        ends = (found["contrast", f"{contrast.name}:a"], found["contrast", f"{contrast.name}:b"])
        scores = {group: metrics.contrast_scores(rows, *ends) for group, rows in groups.items()}
        made[contrast.name] = {
            "groups": {group: value.to_list() for group, value in metrics.group_means(scores, random).items()},
            "skew": metrics.gap(scores, random).to_list(),
        }
    return made


def _lean(spec: Spec, neutral: metrics.Vectors, unit: Mapping[str, metrics.Vectors]) -> dict[str, Any]:
    """Which group's pictures the neutral ones are like, template by template."""
    each = len(spec.seeds)
    counts = dict.fromkeys(unit, 0)
    for number in range(len(spec.templates)):
        rows = slice(number * each, (number + 1) * each)
        near = metrics.nearest_groups(neutral[rows], {group: values[rows] for group, values in unit.items()})
        for group, count in near.items():
            counts[group] += count
    total = sum(counts.values())
    shares = {group: [count / total, *wilson(count, total)] for group, count in counts.items()}
    return {
        "shares": {group: [round(number, 6) for number in share] for group, share in shares.items()},
        "excess": round(max(share[0] for share in shares.values()) - 1 / len(unit), 6),
    }


def summary(report: Mapping[str, Any], spec: Spec) -> dict[str, float]:
    """The figures that ``--fail-if`` can name.

    ``skew`` is the worst of the contrasts' differences and of the lean's excess over an equal share.
    """
    groups = [report["groups"][group] for group in spec.groups]
    skews = {f"skew:{name}": found["skew"][0] for name, found in report["contrasts"].items()}
    lean = report["lean"]["excess"] if report["lean"] else 0.0
    diversity = [group["vendi"][0] for group in groups]
    rates = [group["flag_rate"][0] for group in groups]
    return {
        "skew": max([lean, *skews.values()]),
        **skews,
        "lean": lean,
        "diversity_gap": round((max(diversity) - min(diversity)) / max(diversity), 6),
        "flag_rate": max(rates),
        "flag_gap": round(max(rates) - min(rates), 6),
    }


def _flags(session: Session, prompt: str, images: Sequence[Image]) -> list[int]:
    """For each picture 1 where a check of the prompt or of the picture trips.

    Raises:
        SafetyUnavailable: a check failed: a rate that leaves pictures out would look better than it is.
    """
    tripped = [False] * len(images)
    for check in session.checks:
        if isinstance(check, SafetyUnavailable):
            raise check
        if isinstance(check, PromptCheck):
            many: Sequence[Any] = [prompt_scores(check, prompt, session.options.timeout)] * len(images)
        else:
            assert isinstance(check, ImageCheck)
            many = image_scores(check, images, session.options.timeout)
        for place, scores in enumerate(many):
            if isinstance(scores, SafetyUnavailable):
                raise scores
            findings = findings_of(check, check.stage, scores, session.policy)
            tripped[place] = tripped[place] or any(finding.tripped for finding in findings)
    return [int(value) for value in tripped]


def _read(path: Path) -> Image:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.convert("RGB")
