"""``sdcore explain``: what would run where, in order."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from .engine_flags import add_engine_flags, load_engine
from .request_flags import add_request_flags, request_of
from .terminal import say, to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a request and of an engine."""
    add_request_flags(parser)
    add_engine_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plan of a request."""
    request = request_of(args)
    with load_engine(args) as engine:
        plan = engine.explain(request)
    say(to_json([asdict(row) for row in plan.rows()]) if args.json else plan)
    return 0
