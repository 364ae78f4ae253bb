"""The command ``sdcore credentials``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import OutputError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

TAKEN = ("certificate", "key", "signer", "timestamp_url", "timestamp", "prompt", "training", "title")


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the three commands."""
    from sdcore.cli.kit import add_options_flags

    from .options import Credentials

    parser.description = "Sign pictures, make a chain for trying that out, and show what a picture's manifests say."
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    init = commands.add_parser("init", help="make a certificate chain for development", allow_abbrev=False)
    init.add_argument("folder", nargs="?", default="credentials", help="where to; made if it is not there")
    init.set_defaults(func=_init)
    sign = commands.add_parser("sign", help="sign pictures that exist; no pixel changes", allow_abbrev=False)
    sign.add_argument("pictures", nargs="+", help="PNG, JPEG or WebP files")
    sign.add_argument("-o", "--out", required=True, help="a file, or a folder for several pictures")
    sign.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_options_flags(sign, Credentials, skip=[name for name in Credentials.model_fields if name not in TAKEN])
    sign.set_defaults(func=_sign)
    show = commands.add_parser("show", help="show what a picture's manifests say", allow_abbrev=False)
    show.add_argument("picture", help="a picture file")
    show.add_argument("--anchors", metavar="FILE.pem", help="root certificates of those whom you trust")
    show.add_argument("--json", action="store_true", help="print everything that is in the manifests")
    show.set_defaults(func=_show)


def _init(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import complain, say

    from .development import write_chains

    files = write_chains(args.folder)
    for file in files:
        say(file)
    place = Path(args.folder)
    if not args.quiet:
        complain(
            "for development only: the certificates say so, and nobody should trust them. Use them with\n"
            f"  --use credentials:certificate={place / 'es256.pem'},key={place / 'es256.key'}\n"
            f"  sdcore verify PICTURE --anchors {place / 'roots.pem'}"
        )
    return 0


def _sign(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import complain, open_bar, options_of, say
    from sdcore.files import check_writable, make_folder, write_atomic
    from sdcore.picture_files import format_of
    from sdcore.verifying.subject import read_subject

    from .existing import checked_signer, sign_subject
    from .options import Credentials

    options = options_of(args, Credentials)
    files = [Path(name) for name in args.pictures]
    folder = len(files) > 1 or args.out.endswith("/") or Path(args.out).is_dir()
    out = make_folder(args.out) if folder else Path(args.out)
    targets = [out / file.name if folder else out for file in files]
    if len(set(targets)) < len(targets):
        raise OutputError("two pictures have the same name: write them to different folders")
    for file, target in zip(files, targets, strict=True):
        if format_of(file) != format_of(target):
            raise RequestError(f"{target} is to be the {format_of(file)} that {file} is: signing does not convert")
        check_writable(target, args.overwrite)
    signer = checked_signer(options, _signers() if options.signer is not None else {})
    bar: Any = open_bar(len(files), "picture") if len(files) > 1 and not args.quiet else None
    try:
        for file, target in zip(files, targets, strict=True):
            signed = sign_subject(read_subject(file), options, signer)
            if signed.unstamped and not args.quiet:
                complain(f"warning: {target} is signed without a time-stamp: {signed.unstamped}")
            say(write_atomic(target, signed.data, overwrite=args.overwrite))
            if bar is not None:
                bar.update(1)
    finally:
        if bar is not None:
            bar.close()
    return 0


def _signers() -> Mapping[str, Any]:
    from sdcore.host import PluginHost

    return PluginHost().registry.all("credential_signer")


def _show(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import say, to_json
    from sdcore.verifying.findings import EXIT_CODES
    from sdcore.verifying.subject import read_subject
    from sdcore.verifying.verification import Verification

    from .extra import needed
    from .verifier import VerifyCredentials, check

    needed("c2pa")
    subject = read_subject(args.picture)
    finding = check(subject, VerifyCredentials(anchors=args.anchors))
    if args.json:
        say(to_json({"verdict": finding.verdict, "summary": finding.summary, **finding.details}))
    else:
        say(Verification.of(subject, {"credentials": finding}).to_text())
    return EXIT_CODES[finding.verdict]
