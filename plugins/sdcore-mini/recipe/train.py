"""Train the embedded model, stage by stage.

    python train.py CONFIG.toml [--set FIELD=VALUE] [--resume] [--dry-run]

The configurations are beside this file, ``STAGE-PRESET.toml``; paths in them are relative to the current folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sdcore_train import TrainConfig, dry_run, train
from sdcore_train.cli import read_toml
from text_training import RememberTraining, TellApartTraining

from sdcore import SdcoreError
from sdcore.cli.kit import complain, say, table
from sdcore.request import explain_validation
from sdcore.uses import read_value

PLUGINS = (TellApartTraining, RememberTraining)


def replace(values: dict[str, Any], text: str) -> None:
    """Give a field another value: ``steps=2``, ``pictures.workers=0``, ``compile=null``.

    Raises:
        ValueError: the text is not of this form.
    """
    place, (field, equals, value) = values, text.partition("=")
    *sections, name = field.split(".")
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ValueError(f"--set {text}: {section} has no fields of its own")
    if not equals or not name:
        raise ValueError(f"--set {text}: write FIELD=VALUE, such as steps=2 or pictures.workers=0")
    place[name] = read_value(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="in place of what the file says; repeatable"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="train one step, estimate memory and time")
    args = parser.parse_args(argv)
    try:
        values = read_toml(str(args.config))
        for text in args.set:
            replace(values, text)
        config = TrainConfig(**values)
    except ValidationError as error:
        parser.error(f"{args.config}: {explain_validation(error)}")
    except ValueError as error:
        parser.error(str(error))
    try:
        if args.dry_run:
            say(table(dry_run(config, plugins=PLUGINS).rows()))
        else:
            train(config, resume=args.resume, plugins=PLUGINS)
    except SdcoreError as error:
        complain(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
