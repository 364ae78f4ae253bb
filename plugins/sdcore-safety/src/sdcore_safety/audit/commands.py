"""The command ``sdcore audit``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore_safety.options import DEFAULT_CHECKS, Safety

from .conditions import Condition
from .spec import Spec, read_spec

if TYPE_CHECKING:
    from sdcore.engine import Engine

FIGURES = ("skew", "lean", "diversity_gap", "flag_rate", "flag_gap")


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from sdcore.cli.kit import add_engine_flags

    parser.description = (
        "Draw the same seeds for every group that a spec names, and compare: diversity, skew, which group is drawn "
        "where none is named, and how often safety checks flag harmless pictures. After an interruption it goes on."
    )
    parser.add_argument("spec", metavar="SPEC", help="a .toml or .json file; see the README")
    parser.add_argument("-o", "--out", default="audit", metavar="FOLDER", help="pictures, audit.json, audit.html")
    parser.add_argument("--checks", metavar="A+B", help="safety checks to count; none: no checks")
    parser.add_argument(
        "--profile", choices=("strict", "standard", "research"), default="standard", help="of the checks' thresholds"
    )
    parser.add_argument(
        "--fail-if", action="append", default=[], metavar="FIGURE>NUMBER",
        help=f"exit code 1 if this holds: {', '.join(FIGURES)}, skew:CONTRAST",
    )  # fmt: skip
    add_engine_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Carry out an audit; 1 if a condition holds."""
    from sdcore.cli.kit import cancelled_by_ctrl_c, load_engine, say, table, to_json
    from sdcore.files import make_folder, write_atomic

    spec = read_spec(Path(args.spec))
    conditions = [Condition.parse(text) for text in args.fail_if]
    for condition in conditions:
        condition.check([*FIGURES, *(f"skew:{contrast.name}" for contrast in spec.contrasts)])
    safety = _safety(args)
    out = make_folder(args.out)
    with load_engine(args) as engine, cancelled_by_ctrl_c(engine):
        report, html, failed = audit(engine, spec, out, safety, conditions, quiet=args.quiet)
    write_atomic(out / "audit.json", (to_json(report) + "\n").encode(), overwrite=True)
    write_atomic(out / "audit.html", html.encode(), overwrite=True)
    say(table([(name, f"{value:.4f}") for name, value in report["summary"].items()], ("figure", "value")))
    say(f"{out / 'audit.json'}\n{out / 'audit.html'}")
    for text in failed:
        say(f"fails: {text}")
    return 1 if failed else 0


def _safety(args: argparse.Namespace) -> Safety:
    names = DEFAULT_CHECKS if args.checks is None else tuple(n for n in args.checks.split("+") if n not in ("", "none"))
    return Safety.model_validate({"checks": names, "profile": args.profile})


def audit(
    engine: Engine, spec: Spec, out: Path, safety: Safety, conditions: list[Condition], quiet: bool = True
) -> tuple[dict[str, Any], str, list[str]]:
    """Draw what is missing, and compare.

    Returns:
        The report as JSON values, the HTML page, and the conditions that hold, told for people.

    Raises:
        RequestError: features or checks that there are not. Whatever drawing raises: what was drawn stays.
    """
    from sdcore.cli.kit import open_bar
    from sdcore_safety.check import KIND
    from sdcore_safety.session import Session

    from .analysis import Shown, analyse
    from .drawing import Gallery, cells_of
    from .features import extractor
    from .page import page

    known = engine.host.registry.all(KIND)
    for name in safety.names:
        if name not in known:
            raise RequestError(f"there is no safety check {name!r}; there are {', '.join(known)}")
    extract = extractor(engine, spec.features)
    gallery, cells = Gallery(engine, spec, out / "pictures"), cells_of(spec)
    missing = gallery.missing(cells)
    bar = None if quiet or not missing else open_bar(missing, "picture")
    try:
        gallery.draw(cells, None if bar is None else bar.update)
    finally:
        if bar is not None:
            bar.close()
    shown = [Shown(cell, tuple(gallery.path(cell, seed) for seed in spec.seeds)) for cell in cells]
    session = Session(safety, engine.host.registry, engine.model, {}, {})
    report = analyse(spec, gallery, shown, extract, session)
    failed = [condition.told(report["summary"]) for condition in conditions if condition.holds(report["summary"])]
    return report, page(report, shown, failed), failed
