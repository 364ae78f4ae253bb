"""``sdcore replay``: make a picture again from its record."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sdcore.files import check_writable, write_atomic
from sdcore.picture_files import format_of
from sdcore.record import shown

from .engine_flags import add_engine_flags, load_settings
from .progress import Progress
from .terminal import complain, say, to_json

if TYPE_CHECKING:
    from sdcore.replay import Replay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the picture, what may be opened for it, and the flags of an engine."""
    parser.add_argument("picture", metavar="PICTURE", help="a PNG, JPEG or WebP with a record")
    parser.add_argument("-o", "--out", metavar="FILE", help="write the picture that is made")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATH",
        help="a file, or a folder of files, that may be opened if the record names one of the same hash",
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    add_engine_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Replay, and say whether the pixels are identical; 1 if they are not."""
    kind = format_of(args.out) if args.out else "png"
    if args.out:
        check_writable(args.out, args.overwrite)
    from sdcore.picture_files import read_record
    from sdcore.replay import replay_picture

    read_record(args.picture)  # what is wrong with it is said before anything is loaded
    with Progress(args.quiet) as progress:
        replay = replay_picture(
            args.picture, model=args.model, allow=args.allow, on_event=progress, **load_settings(args)
        )
    if args.json:
        say(
            to_json(
                {
                    "identical": replay.identical,
                    "edited": replay.edited,
                    "differences": replay.differences,
                    "pixels_sha256": replay.picture.record.pixels_sha256,
                    "recorded_pixels_sha256": replay.record.pixels_sha256,
                }
            )
        )
    else:
        _report(replay, args.picture)
    if args.out:
        file = write_atomic(args.out, replay.picture.encode(kind), overwrite=args.overwrite)
        if not args.json:
            say(file)
    return 0 if replay.identical and not replay.edited else 1


def _report(replay: Replay, picture: str) -> None:
    if not replay.identical:
        say(f"not identical: seed {replay.record.seed} gives other pixels here")
    elif replay.edited:
        say(f"edited: the record gives the picture that it tells of, but the pixels in {shown(picture)} are others")
    else:
        say("identical")
    for difference in replay.differences:
        (complain if replay.identical else say)(f"  {difference}")
