"""``sdcore record``: the record inside a picture."""

from __future__ import annotations

import argparse
import json

from sdcore.parameters_text import parameters_text
from sdcore.picture_files import read_record

from .terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the picture."""
    parser.add_argument("picture", metavar="PICTURE", help="a PNG, JPEG or WebP with a record")
    parser.add_argument("--parameters", action="store_true", help="as the text that other tools read")


def run(args: argparse.Namespace) -> int:
    """Print a record as JSON or as text."""
    record = read_record(args.picture)
    if args.parameters:
        say(parameters_text(record))
    else:
        say(json.dumps(json.loads(record.to_json()), indent=2))
    return 0
