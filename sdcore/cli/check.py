"""``sdcore check``: whether a plugin keeps what every plugin promises."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sdcore.errors import RequestError
from sdcore.plugin import nearest
from sdcore.uses import parse_use

from .progress import open_bar
from .terminal import complain, say, table, to_json

if TYPE_CHECKING:
    from sdcore.testing.conformance.catalogue import Check
    from sdcore.testing.conformance.outcome import Report
    from sdcore.testing.conformance.subject import Subject

TIERS = ("cpu", "gpu", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is checked, on what, and how it is printed."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="installed plugins")
    parser.add_argument("--all", action="store_true", help="everything that is installed")
    parser.add_argument("--file", action="append", default=[], metavar="FILE.py", help="the plugins in this file")
    parser.add_argument(
        "--use",
        action="append",
        default=[],
        metavar="NAME:OPTIONS",
        help="check with these options (lora:path=style.safetensors) instead of those that the package has",
    )
    parser.add_argument(
        "--tier",
        action="append",
        choices=TIERS,
        default=[],
        help="cpu (default): small random models; gpu: the same on CUDA, in half precision too; weights: a real model",
    )
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="this check, and what it rests on")
    parser.add_argument("--model", metavar="SRC", help="for the tier weights: a model instead of the installed one")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print as JSON")
    shown.add_argument("--markdown", action="store_true", help="print as a table for documentation")
    shown.add_argument("--list", action="store_true", help="say what each check asks, and check nothing")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return 1 if a check failed."""
    from sdcore.testing.conformance import showing
    from sdcore.testing.conformance.catalogue import checks

    if args.list:
        say(table([(check.number, name, check.title) for name, check in checks().items()], ("#", "check", "promise")))
        return 0
    wanted = [_check(name) for name in args.only]
    subjects = _subjects(args)
    reports = _carry_out(subjects, wanted, args.quiet)
    if args.json:
        say(to_json([showing.facts(report) for report in reports]))
    elif args.markdown:
        say(showing.markdown(reports).rstrip())
    else:
        _print(reports)
    return 1 if any(report.failed for report in reports) else 0


def _print(reports: list[Report]) -> None:
    from sdcore.testing.conformance import showing

    for report in reports:
        found = showing.rows(report, every=len(reports) == 1)
        say(showing.summary(report))
        if found:
            say(table(found, ("check", "outcome", "why, or what it asks")) + "\n")
    failed = [report.plugin for report in reports if report.failed]
    if len(reports) > 1:
        say(f"failed: {', '.join(failed)}" if failed else f"all {len(reports)} pass")


def _check(name: str) -> Check:
    from sdcore.testing.conformance.catalogue import checks

    if name not in checks():
        raise RequestError(f"there is no check {name!r}.{nearest(name, checks())} `sdcore check --list` tells of each")
    return checks()[name]


def _subjects(args: argparse.Namespace) -> list[Subject]:
    from sdcore.testing.conformance.finding import find, from_file, names

    uses: dict[str, list[Any]] = {}
    for text in args.use:
        try:
            use = parse_use(text)
        except ValueError as error:
            raise RequestError(f"--use: {error}") from None
        uses.setdefault(use.plugin, []).append(use.options)
    chosen = list(dict.fromkeys([*args.names, *(names() if args.all else ())]))
    if not chosen and not args.file:
        raise RequestError("nothing to check: give names of installed plugins, --file FILE.py, or --all")
    found = []
    for tier in args.tier or ("cpu",):
        found += [find(name, tier, uses.get(name, ()), args.model) for name in chosen]
        for file in args.file:
            found += from_file(file, tier, uses)
    unknown = sorted(uses.keys() - {subject.name for subject in found})
    if unknown:
        raise RequestError(f"--use names {', '.join(unknown)}, which is not checked; name it too, or give its --file")
    return found


def _carry_out(subjects: list[Subject], only: list[Check], quiet: bool) -> list[Report]:
    from sdcore.testing.conformance.catalogue import checks
    from sdcore.testing.conformance.outcome import Report
    from sdcore.testing.conformance.running import run_check

    reports = []
    count = len(subjects) * len(only or checks())
    bar = None if quiet else open_bar(count, "check")
    try:
        for subject in subjects:
            outcomes = []
            for check in only or checks().values():
                if bar is not None:
                    bar.set_description(f"{subject.name}: {check.name}")
                    bar.update(1)
                if subject.tier in check.tiers:
                    outcomes.append(run_check(subject, check))
            reports.append(Report(subject.name, subject.found.label, subject.tier, tuple(outcomes)))
    finally:
        if bar is not None:
            bar.close()
    if not any(report.outcomes for report in reports):
        complain(f"the tier has none of the checks {', '.join(check.name for check in only)}")
    return reports
