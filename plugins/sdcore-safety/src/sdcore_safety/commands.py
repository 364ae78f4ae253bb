"""The command ``sdcore safety``: check, eval, explain."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import Registry, RequestError

from .check import KIND, ImageCheck
from .errors import SafetyUnavailable
from .options import Safety
from .report import SafetyReport
from .session import Session, threshold_problems

if TYPE_CHECKING:
    from sdcore.models import Model

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    from sdcore.cli.kit import add_engine_flags, add_options_flags

    parser.description = "Judge pictures, measure checks on a labelled set, explain a policy."
    commands = parser.add_subparsers(dest="what", required=True, metavar="check|eval|explain")
    check = commands.add_parser("check", help="judge pictures that exist; exit code 1 if one trips, 3 if a check fails")
    check.add_argument("files", nargs="+", metavar="FILE", help="pictures, or folders of pictures")
    check.add_argument("--json", action="store_true", help="one report a line, as JSON")
    check.set_defaults(func=run_check)
    measure = commands.add_parser("eval", help="rates of every check on your own labelled pictures")
    measure.add_argument(
        "--manifest", required=True, metavar="FILE.jsonl", help='a line each: {"path": ..., "labels": ["sexual"]}'
    )
    measure.add_argument("--json", metavar="FILE", help="write the rates as JSON too")
    measure.add_argument("--scores", metavar="FILE", help="write the scores of every picture, a line each")
    measure.add_argument("--overwrite", action="store_true", help="replace files that exist")
    measure.set_defaults(func=run_eval)
    explain = commands.add_parser("explain", help="which check looks at what, with which thresholds; loads the checks")
    add_engine_flags(explain)
    explain.add_argument("--json", action="store_true", help="as JSON")
    explain.set_defaults(func=run_explain)
    for command in (check, measure, explain):
        add_options_flags(command, Safety, skip=("settings", "thresholds", "sld", "sld_concept", "projection"))
        command.add_argument(
            "--threshold", action="append", default=[], metavar="[CHECK:]CATEGORY=SCORE", help="a score that trips"
        )


def options_from(args: argparse.Namespace) -> Safety:
    """The options that the flags give.

    Raises:
        RequestError: one of them is wrong.
    """
    from sdcore.cli.kit import options_of

    thresholds: dict[str, float | None] = {}
    for text in args.threshold:
        name, equals, score = text.rpartition("=")
        try:
            thresholds[name] = None if score == "none" else float(score)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise RequestError(f"--threshold {text!r} is not understood; write it as sexual=0.7 or nsfwjs:sexual=none")
    return options_of(args, Safety, thresholds=thresholds)


def image_session(options: Safety, registry: Registry, model: Model | None = None) -> Session:
    """A session that judges pictures that exist: prompt checks are left out, there is no prompt."""
    from .check import check_class

    problems = threshold_problems(options, registry)
    if problems:
        raise RequestError(problems[0])
    names = []
    for name in options.names:
        try:
            kind = check_class(registry.get(KIND, name))
        except (TypeError, ImportError, AttributeError) as error:
            raise SafetyUnavailable(name, str(error)) from error
        if issubclass(kind, ImageCheck):
            names.append(name)
    if not names:
        raise RequestError(f"none of the checks {', '.join(options.names)} looks at pictures; add nsfwjs")
    changed = options.model_copy(update={"checks": tuple(names), "clip_checker": None, "open_nsfw": None})
    values = {name: options.check_values(name) for name in names}
    return Session(changed.model_copy(update={"settings": values}), registry, model, {}, {})


def pictures_below(files: list[str]) -> list[Path]:
    """The pictures that are named, and those in the folders that are.

    Raises:
        RequestError: a name is neither, or there are no pictures.
    """
    found: list[Path] = []
    for name in files:
        path = Path(name)
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise RequestError(f"there is no picture or folder {name!r}")
    if not found:
        raise RequestError(f"there is no picture in {', '.join(files)}")
    return found


def installed_registry() -> Registry:
    """The checks of all installed plugins."""
    from sdcore.host import PluginHost

    return PluginHost().registry


def run_check(args: argparse.Namespace) -> int:
    """Judge pictures; the worst outcome is the exit code."""
    from sdcore.cli.kit import open_bar, say, table

    files = pictures_below(args.files)
    session = image_session(options_from(args), installed_registry())
    bar = None if args.quiet or len(files) < 4 else open_bar(len(files), "picture")
    rows, worst = [], 0
    for index, file in enumerate(files):
        report = judge_file(session, index, file)
        worst = max(worst, {"allow": 0, "error": 3}.get(report.outcome, 1))
        if args.json:
            say(json.dumps({"path": str(file), "report": report.to_dict(), "report_sha256": report.sha256}))
        rows += _rows(str(file), report)
        if bar is not None:
            bar.update(1)
    if bar is not None:
        bar.close()
    if not args.json:
        say(table(rows, ("picture", "outcome", "check", "category", "score", "threshold", "margin")))
    return worst


def judge_file(session: Session, index: int, file: Path) -> SafetyReport:
    """The report on a file; one that cannot be read is an error, not a pass."""
    from PIL import Image, UnidentifiedImageError

    from .report import Failure

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        blank = session.report(index)
        failure = Failure("image", "file", f"{type(error).__name__}: {error}")
        return SafetyReport("error", blank.policy, (), (failure,), (), blank.guidance)
    session.judge_image(index, image)
    return session.report(index)


def _rows(file: str, report: SafetyReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (file, report.outcome, f.check, f.category, f"{f.score:.3f}", _number(f.threshold), _number(f.margin))
        for f in report.findings
    ]
    return rows + [(file, report.outcome, f.check, f.problem, "-", "-", "-") for f in report.failures]


def _number(value: float | None) -> str:
    return "not judged" if value is None else f"{value:.3f}"


def run_eval(args: argparse.Namespace) -> int:
    """Measure rates on a labelled set."""
    from sdcore.cli.kit import open_bar, say, table, to_json
    from sdcore.files import check_writable, write_atomic

    from .evaluate import evaluate, rates, read_manifest

    for name in (args.json, args.scores):
        if name:
            check_writable(name, args.overwrite)
    items = read_manifest(Path(args.manifest))
    session = image_session(options_from(args), installed_registry())
    for check in session.checks:
        if isinstance(check, SafetyUnavailable):
            raise check
    bar = None if args.quiet else open_bar(len(items), "picture")
    scored = evaluate(session, items, (lambda count: bar.update(count)) if bar is not None else None)
    if bar is not None:
        bar.close()
    found = rates(session.policy, scored)
    header = ("check", "category", "threshold", "true positives", "false positives", "on unlabelled")
    say(table([rate.row() for rate in found], header))
    failed = sum(item.problem is not None for item in scored)
    say(f"{len(scored)} pictures, {failed} could not be judged; intervals are of 95 %")
    if args.json:
        values = {"pictures": len(scored), "rates": [rate.to_dict() for rate in found]}
        write_atomic(args.json, to_json(values).encode(), overwrite=args.overwrite)
    if args.scores:
        lines = "".join(json.dumps(item.to_dict()) + "\n" for item in scored)
        write_atomic(args.scores, lines.encode(), overwrite=args.overwrite)
    return 0


def run_explain(args: argparse.Namespace) -> int:
    """Show a policy and whether its checks can be used."""
    from sdcore.cli.kit import load_engine, say, table, to_json

    options = options_from(args)
    with load_engine(args) as engine:
        session = Session(options, engine.host.registry, engine.model, {}, {})
        rows: list[tuple[Any, ...]] = []
        for check in session.checks:
            if isinstance(check, SafetyUnavailable):
                rows.append((check.check, "-", "-", "-", "-", f"cannot be used: {check.problem}"))
                continue
            for category in check.categories:
                threshold = session.policy.threshold(check.name, category)
                rows.append(
                    (check.name, check.version, check.stage, category, _number(threshold), check.weights_sha256 or "-")
                )
    header = ("check", "version", "stage", "category", "trips from", "sha256")
    if args.json:
        say(to_json([dict(zip(header, row, strict=True)) for row in rows]))
    else:
        say(f"profile {session.policy.profile}, action {session.policy.action}, on error {options.on_error}")
        say(table([(*row[:-1], str(row[-1])[:16] if len(str(row[-1])) == 64 else row[-1]) for row in rows], header))
    return 3 if any(str(row[-1]).startswith("cannot") for row in rows) else 0
