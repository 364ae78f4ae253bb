"""Train the embedded model, stage by stage.

    python train.py CONFIG.toml [--resume] [--dry-run]

The configurations are beside this file, ``STAGE-PRESET.toml``; paths in them are relative to the current folder.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from sdcore_train import TrainConfig, dry_run, train
from text_training import RememberTraining, TellApartTraining

from sdcore import SdcoreError
from sdcore.cli.kit import complain, say, table

PLUGINS = (TellApartTraining, RememberTraining)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="train one step, estimate memory and time")
    args = parser.parse_args(argv)
    try:
        with args.config.open("rb") as stream:
            config = TrainConfig(**tomllib.load(stream))
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
