"""``sdcore new``: start a plugin from one that works."""

from __future__ import annotations

import argparse
import shlex

from sdcore.scaffold import check_name, new_file, new_package

from .terminal import say

_PROMPT = '"a red apple, 3d style"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name, and where to write what."""
    parser.add_argument("name", metavar="NAME", help="of the plugin, as users will write it: lower case, with hyphens")
    parser.add_argument("--single-file", action="store_true", help="one file for --plugin FILE instead of a package")
    parser.add_argument("--author", metavar='"NAME <MAIL>"', help="goes into pyproject.toml")
    parser.add_argument(
        "--out", metavar="PATH", help="the new folder or file, or a folder to write it in (default: here)"
    )


def run(args: argparse.Namespace) -> int:
    """Write it, and print the next three commands."""
    names = check_name(args.name)
    if args.single_file:
        file = new_file(names, args.out)
        where = shlex.quote(str(file))
        say(f"{file} is a plugin that works. Next:")
        _print(
            f"sdcore explain {_PROMPT} --plugin {where} --use {names.plugin}",
            f"sdcore generate {_PROMPT} --plugin {where} --use {names.plugin}:warmth=0.8",
            f"sdcore new {names.plugin}",
        )
        return 0
    folder = new_package(names, args.out, args.author)
    where = shlex.quote(str(folder))
    say(f"{folder} is a plugin that works, with its tests. Next:")
    _print(
        f"pip install -e {_installable(where)}",
        f"pytest {where}",
        f"sdcore generate {_PROMPT} --use {names.plugin}:warmth=0.8",
    )
    return 0


def _print(*commands: str) -> None:
    for command in commands:
        say(f"  {command}")


def _installable(where: str) -> str:
    # pip takes a bare name for one on an index; and shells read brackets as patterns.
    path = where if where.startswith(("/", "./", "../", "'", "~")) else f"./{where}"
    return f'"{path}[dev]"' if "'" not in path else f"{path}'[dev]'"
