"""Outcomes as text, as a table for documentation, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .catalogue import checks
from .outcome import Outcome, Report

SIGNS = {"passed": "✓", "failed": "✗", "exception": "e", "not applicable": "–", "not run": "·"}
WORDS = {"passed": "pass", "failed": "FAIL", "exception": "exception", "not applicable": "n/a", "not run": "not run"}


def summary(report: Report) -> str:
    """One line: how many checks came out how."""
    counts = {state: sum(outcome.state == state for outcome in report.outcomes) for state in SIGNS}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    taken = sum(outcome.seconds for outcome in report.outcomes)
    return f"{report.plugin} ({report.distribution}), tier {report.tier}: {told}, in {taken:.1f} s"


def rows(report: Report, every: bool = True) -> list[tuple[str, str, str]]:
    """Check, outcome, and why, or what the check asks for. Without ``every`` only what did not pass."""
    return [
        (outcome.check, WORDS[outcome.state], outcome.detail or checks()[outcome.check].title)
        for outcome in report.outcomes
        if every or outcome.state not in ("passed", "not applicable")
    ]


def facts(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return {
        "plugin": report.plugin,
        "distribution": report.distribution,
        "tier": report.tier,
        "ok": not report.failed,
        "checks": [
            {
                "check": outcome.check,
                "outcome": outcome.state,
                "why": outcome.detail,
                "seconds": round(outcome.seconds, 3),
                "promise": checks()[outcome.check].title,
            }
            for outcome in report.outcomes
        ],
    }


def markdown(reports: Sequence[Report]) -> str:
    """A table, a plugin a column and a check a row; the reasons below it."""
    text = ""
    for tier in dict.fromkeys(report.tier for report in reports):
        mine = [report for report in reports if report.tier == tier]
        text += f"## Tier {tier}\n\n| # | check | {' | '.join(report.plugin for report in mine)} |\n"
        text += f"|---|---|{'---|' * len(mine)}\n"
        for check in checks().values():
            if tier in check.tiers:
                signs = [SIGNS[_of(report, check.name).state] for report in mine]
                text += f"| {check.number} | [{check.name}](#what-each-check-asks) | {' | '.join(signs)} |\n"
        text += f"\n{''.join(_reasons(mine))}\n"
    text += "## What each check asks\n\n| # | check | a plugin that passes: | on |\n|---|---|---|---|\n"
    for check in checks().values():
        on = "the package" if check.scope == "plugin" else "every family" if check.everywhere else "the first family"
        text += f"| {check.number} | `{check.name}` | {check.title} | {on} |\n"
    return text


def _of(report: Report, name: str) -> Outcome:
    return next(outcome for outcome in report.outcomes if outcome.check == name)


def _reasons(reports: Iterable[Report]) -> Iterable[str]:
    """A line for every reason, with the checks that it is given for."""
    for report in reports:
        why: dict[tuple[str, str], list[str]] = {}
        for outcome in report.outcomes:
            if outcome.state != "passed":
                why.setdefault((SIGNS[outcome.state], outcome.detail), []).append(outcome.check)
        for (sign, detail), names in why.items():
            yield f"* {sign} **{report.plugin}**, {', '.join(names)}: {detail}\n"
