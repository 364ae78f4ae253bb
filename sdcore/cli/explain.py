"""``sdcore explain``: what would run where, in order; with ``--trace`` what it did."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .engine_flags import add_engine_flags, load_engine
from .progress import Progress
from .request_flags import add_request_flags, request_of
from .terminal import cancelled_by_ctrl_c, say, to_json
from .trace_file import check_trace_file, write_trace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a request and of an engine, and those of a trace."""
    add_request_flags(parser)
    add_engine_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="carry the request out too, keeping no picture, and show what each plugin did: time, memory, change",
    )
    parser.add_argument(
        "--trace-picture", metavar="FILE", help="with --trace: write it as a picture (.png), as .json or as .txt"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def run(args: argparse.Namespace) -> int:
    """Print the plan of a request, and its trace."""
    request = request_of(args)
    if args.trace_picture:
        check_trace_file(args.trace_picture, args.overwrite)
    with load_engine(args) as engine:
        plan = engine.explain(request)
        trace = None
        if args.trace or args.trace_picture:
            with Progress(args.quiet) as progress, cancelled_by_ctrl_c(engine):
                trace = engine.generate(request, on_event=progress, trace=True).trace
    rows = [asdict(row) for row in plan.rows()]
    if trace is None:
        say(to_json(rows) if args.json else plan)
        return 0
    say(to_json({"plan": rows, "trace": json.loads(trace.to_json())}) if args.json else f"{plan}\n\n{trace}")
    if args.trace_picture:
        file = write_trace(trace, args.trace_picture, args.overwrite)
        if not args.json:
            say(file)
    return 0
