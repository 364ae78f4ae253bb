"""``sdcore verify``: what a picture says about where it comes from, and whether that can be believed."""

from __future__ import annotations

import argparse

from sdcore.files import check_writable, write_atomic

from .engine_flags import add_plugin_flags, chosen_plugins
from .terminal import complain, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the picture, whom to trust, options of verifiers, and the output."""
    parser.add_argument("picture", metavar="PICTURE", help="a picture file")
    parser.add_argument("--anchors", metavar="FILE.pem", help="root certificates of those whom you trust")
    parser.add_argument(
        "--with",
        dest="use",
        action="append",
        default=[],
        metavar="NAME:OPTION=VALUE",
        help="options of a verifier, such as watermark:key=mark.key; may be given for several",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with the findings and small pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_plugin_flags(parser)
    from sdcore.verifying.findings import EXIT_CODES

    codes = ", ".join(f"{code} {verdict}" for verdict, code in EXIT_CODES.items())
    parser.epilog = f"Exit codes: {codes}; 1 for a failure, 2 for a file or a command line that cannot be used."


def run(args: argparse.Namespace) -> int:
    """Verify, print, and return the verdict's exit code."""
    if args.html:
        check_writable(args.html, args.overwrite)
    from sdcore.host import PluginHost
    from sdcore.verifying import verify

    from .engine_flags import warn_of_broken

    host = PluginHost(chosen_plugins(args))
    if not args.quiet:
        warn_of_broken(host)
    found = verify(args.picture, anchors=args.anchors, use=args.use, host=host)
    say(found.to_json() if args.json else found.to_text())
    if args.html:
        file = write_atomic(args.html, found.to_html().encode(), overwrite=args.overwrite)
        if not args.json:
            complain(f"page: {file}")
    return found.exit_code
