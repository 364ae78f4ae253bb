"""``sdcore preprocess``: the command line of the preprocessors."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sdcore import RequestError
from sdcore.plugin import nearest
from sdcore.preprocessing import Preprocessor

from .catalogue import ALIASES, canonical

if TYPE_CHECKING:
    from sdcore import Registry

Fill = Callable[[argparse.ArgumentParser], None]
_EPILOG = (
    "`sdcore preprocess NAME --help` shows its options. Several pictures, and folders of pictures, may be named; "
    "then --out is a folder."
)


def command(registry: Registry) -> Fill:
    """What ``registry.add("cli_command", "preprocess", ...)`` takes."""

    def fill(parser: argparse.ArgumentParser) -> None:
        """Make edges, depth, poses, ... of pictures, for ControlNets."""
        add_arguments(parser, _all(registry))

    return fill


def add_arguments(parser: argparse.ArgumentParser, known: Mapping[str, Preprocessor]) -> None:
    """Add ``--list``, ``--sheet`` and a sub-command for every preprocessor."""
    from sdcore.cli.kit import add_options_flags

    parser.description = "Make of pictures what ControlNets want to see: edges, depth, poses, ..."
    parser.epilog = _EPILOG
    parser.add_argument("--list", action="store_true", help="all preprocessors, what they need, whether they work here")
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.add_argument("--sheet", metavar="PICTURE", help="one sheet of what all that work here make of a picture")
    parser.add_argument("-o", "--out", metavar="FILE", help="with --sheet: where it is written")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    parser.set_defaults(func=lambda args: _without_name(parser, args, known))
    names = parser.add_subparsers(metavar="NAME", title="preprocessors")
    for name, preprocessor in known.items():
        aliases = [alias for alias, target in ALIASES.items() if target == name]
        one = names.add_parser(
            name,
            aliases=aliases,
            help=preprocessor.about + (f" (needs {preprocessor.needs})" if preprocessor.needs else ""),
            description=_about(preprocessor),
            allow_abbrev=False,
        )
        one.add_argument("pictures", nargs="+", metavar="PICTURE", help="a picture file, or a folder of them")
        one.add_argument("-o", "--out", metavar="PATH", help="a file, or a folder (default: PICTURE-NAME.png here)")
        one.add_argument("--overwrite", action="store_true", help="replace files that exist")
        if preprocessor.options is not None:
            add_options_flags(one, preprocessor.options)
        one.set_defaults(func=_runner(preprocessor))
    names.choices = _Known(names.choices)


class _Known(dict[str, argparse.ArgumentParser]):
    """Names of sub-commands; looking for another one raises RequestError with the nearest."""

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            raise RequestError(f"there is no preprocessor {name!r}.{nearest(canonical(str(name)), self)}")
        return True


def _all(registry: Registry) -> dict[str, Preprocessor]:
    """Those of this package in their own order, then those of other plugins."""
    from .catalogue import preprocessors

    found = registry.all("preprocessor")
    return {name: found[name] for name in [*(n for n in preprocessors() if n in found), *found]}


def _about(preprocessor: Preprocessor) -> str:
    needs = f" Needs {preprocessor.needs}." if preprocessor.needs else ""
    return f"{preprocessor.about[:1].upper()}{preprocessor.about[1:]}.{needs}"


def _runner(preprocessor: Preprocessor) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from sdcore.cli.kit import options_of, say

        from .batch import Outputs, find_pictures, preprocess_files

        options = None if preprocessor.options is None else options_of(args, preprocessor.options)
        pictures = find_pictures(args.pictures)
        outputs = Outputs(args.out, preprocessor.name, pictures, args.overwrite)
        written = 0
        for path in preprocess_files(preprocessor, options, pictures, outputs):
            say(path)
            written += 1
        return 0 if written == len(pictures) else 1

    return run


def _without_name(parser: argparse.ArgumentParser, args: argparse.Namespace, known: Mapping[str, Preprocessor]) -> int:
    from sdcore.cli.kit import say, table, to_json

    if args.sheet:
        from .batch import write_sheet

        say(write_sheet(args.sheet, args.out, known, args.overwrite))
        return 0
    if not args.list:
        parser.print_help()
        return 2
    if args.json:
        say(
            to_json(
                [{"name": p.name, "about": p.about, "needs": p.needs, "works": not p.needs} for p in known.values()]
            )
        )
        return 0
    rows = [(p.name, p.about, f"no: {p.needs}" if p.needs else "yes") for p in known.values()]
    say(table(rows, ("name", "what", "works here")))
    return 0
