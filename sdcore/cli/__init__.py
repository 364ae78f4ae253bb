"""The command line. Each command is a module with ``add_arguments(parser)`` and ``run(args) -> exit code``.

Only the chosen command's module is imported, and a module imports torch only when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

from sdcore.errors import Cancelled, ConflictError, PluginLoadError, RequestError, SdcoreError

from .terminal import complain, tolerate_any_text

COMMANDS = {
    "generate": "draw pictures",
    "replay": "make a picture again from the record inside it",
    "explain": "show which plugin would do what, in which order; nothing is computed",
    "record": "print the record inside a picture",
    "verify": "find out where a picture comes from, and whether that can be believed",
    "plugins": "list plugins, or describe one",
    "models": "list installed models, or describe one",
    "schedulers": "list schedulers",
    "check": "check that a plugin keeps what every plugin promises",
    "new": "start a plugin from one that works",
    "doctor": "check this installation",
    "demo": "draw a set of pictures with the installed model",
}
_ALSO = {"verbose": "everything that libraries say, and tracebacks", "quiet": "no progress bar and no warnings"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit code: 0; 1 for a failure, or for pictures that differ; 2 for a request or a command line that
        cannot be carried out; 130 after Ctrl-C. ``verify`` returns that of its verdict.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    tolerate_any_text()
    try:
        if "--verbose" in arguments:
            return _main(arguments)
        from sdcore.quiet import quiet_process

        with quiet_process():
            return _main(arguments)
    except SystemExit as end:  # argparse
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        # Whoever read the output has gone, and what is still buffered would fail once more at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: list[str]) -> int:
    verbose = "--verbose" in arguments
    try:
        locks = _locks(arguments)
        if locks:  # before the parser asks plugins for their commands
            from sdcore.trust import check_lock

            for lock in locks:
                check_lock(lock)
        args = _parsed(arguments)
        if getattr(args, "locked", None) and not locks:
            raise RequestError("write --locked in full: what is installed is compared before flags are understood")
        run: Callable[[argparse.Namespace], int | None] | None = getattr(args, "func", None)
        if run is None:
            _parser([]).print_help()
            return 2
        code = run(args) or 0
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Cancelled) as error:
        if verbose:
            traceback.print_exc()
        complain(f"cancelled{': nothing was written' if isinstance(error, Cancelled) else ''}")
        return 130
    except SdcoreError as error:
        if verbose:
            traceback.print_exc()
        complain(f"error: {error}")
        return 2 if isinstance(error, RequestError | ConflictError | PluginLoadError) else 1


def _locks(arguments: Sequence[str]) -> list[str]:
    """The files of ``--locked FILE`` and ``--locked=FILE``."""
    flags = list(itertools.takewhile(lambda argument: argument != "--", arguments))
    found = [flag.partition("=")[2] for flag in flags if flag.startswith("--locked=")]
    return found + [value for flag, value in itertools.pairwise(flags) if flag == "--locked"]


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, understood; a flag that is not known is an error of the command that it was given to."""
    parser = _parser(arguments)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen = parser
        for argument in arguments:
            inner = [one for one in chosen._actions if isinstance(one, argparse._SubParsersAction)]
            if inner and argument in inner[0].choices:
                chosen = inner[0].choices[argument]
        flags = [option for action in chosen._actions for option in action.option_strings]
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}.{_meant(unknown[0], flags)}".rstrip("."))
    return args


def _meant(given: str, flags: Sequence[str]) -> str:
    """The flag that was probably meant: another spelling, or one of a section (``--optimizer.learning-rate``)."""
    from sdcore.plugin import nearest

    name = given.partition("=")[0].replace("_", "-")
    inside = [flag for flag in flags if flag == name or flag.endswith("." + name.lstrip("-"))]
    return f" Did you mean {inside[0]!r}?" if inside else nearest(name, flags)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdcore",
        description="Stable Diffusion in which every feature is a plugin.",
        epilog="`sdcore COMMAND --help` explains a command. Plugins may add commands: see `sdcore plugins`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=_sentence(about), allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f".{name}", __name__)
            module.add_arguments(command)
            _add_common(command)
            command.set_defaults(func=module.run)
    if chosen is None and "--version" not in arguments:
        for name, fill in _commands_of_plugins().items():
            about = (fill.__doc__ or "of a plugin").strip().partition("\n")[0].rstrip(".")
            commands.add_parser(name, help=about[:1].lower() + about[1:], allow_abbrev=False)
    elif chosen is not None and chosen not in COMMANDS:
        fill = _command_of_plugin(chosen)
        command = commands.add_parser(chosen, allow_abbrev=False)
        fill(command)
        _add_common(command)
    return parser


_Fill = Callable[[argparse.ArgumentParser], object]


def _commands_of_plugins() -> Mapping[str, _Fill]:
    import warnings

    from sdcore.host import PluginHost

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PluginHost().registry.all("cli_command")


def _command_of_plugin(name: str) -> _Fill:
    from sdcore.plugin import nearest

    found = _commands_of_plugins()
    if name not in found:
        raise RequestError(f"there is no command {name!r}.{nearest(name, [*COMMANDS, *found])} See sdcore --help")
    return found[name]


def _add_common(command: argparse.ArgumentParser, inside: bool = False) -> None:
    known = {option for action in command._actions for option in action.option_strings}
    # Where a command has commands of its own both take the flags: what the inner is not given must not undo the outer.
    default = argparse.SUPPRESS if inside else False
    for name, about in _ALSO.items():
        if f"--{name}" not in known:
            command.add_argument(f"--{name}", action="store_true", default=default, help=about)
    if "--locked" not in known:
        command.add_argument(
            "--locked",
            metavar="FILE",
            default=argparse.SUPPRESS if inside else None,
            help="start only if exactly what FILE locks is installed (see sdcore plugins lock)",
        )
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for parser in dict.fromkeys(action.choices.values()):
                _add_common(parser, inside=True)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sdcore {version('sdcore')}")
        parser.exit()
