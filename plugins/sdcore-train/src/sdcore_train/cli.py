"""``sdcore train METHOD``: a configuration from a TOML file and from flags."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sdcore import Options
from sdcore.cli.kit import add_options_flags, complain, flag_of, options_of, read_flag, say, table
from sdcore.cli.option_table import option_rows
from sdcore.request import explain_validation
from sdcore.uses import Use, parse_use, read_uses

from .config import Source, TrainConfig
from .errors import ConfigError
from .hooks import Training
from .monitor.report import NAME
from .resolve import known_plugins

_DEST = "train:"
_OWN = ("data", "use")


def fill(parser: argparse.ArgumentParser) -> None:
    """Train models, LoRAs, ControlNets and new words."""
    known = known_plugins()
    parser.description = "Train with the pictures and captions of a folder. What is trained is a METHOD."
    parts = {name: plugin for name, plugin in known.items() if not plugin.command}
    parser.epilog = "parts that --use adds to any method: " + "; ".join(f"{n} ({p.about})" for n, p in parts.items())
    methods = parser.add_subparsers(metavar="METHOD", title="methods", required=True)
    for name, plugin in known.items():
        if plugin.command:
            _add_method(methods.add_parser(name, help=plugin.about, allow_abbrev=False), plugin)
    listing = methods.add_parser("list", help="list methods and parts with their options", allow_abbrev=False)
    listing.set_defaults(func=lambda args: _list(known))


def _add_method(parser: argparse.ArgumentParser, plugin: type[Training]) -> None:
    parser.description = (plugin.about[:1].upper() + plugin.about[1:]).rstrip(".") + "."
    parser.usage = "%(prog)s [--config FILE] [--data PATH] [--output FOLDER] [--resume | --dry-run] [FLAGS]"
    parser.add_argument("--config", metavar="FILE", help="a TOML file; flags override it")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    parser.add_argument("--dry-run", action="store_true", help="load everything, train two steps, estimate memory and time, keep nothing")  # fmt: skip # noqa: E501
    parser.add_argument("--data", action="append", metavar="PATH", help='pictures: a path, or "path=photos,repeats=10,role=class" with any field of a source; can be repeated')  # fmt: skip # noqa: E501
    parser.add_argument("--use", action="append", metavar="NAME:OPTION=VALUE,...", help="add a part such as min-snr:gamma=5; can be repeated")  # fmt: skip # noqa: E501
    taken = set(TrainConfig.model_fields) | {"config", "resume", "dry_run", "quiet", "verbose"}
    spell = {name: f"{plugin.name}.{name}" for name in plugin.Options.model_fields if name in taken}
    add_options_flags(parser, plugin.Options, spell=spell)
    _add_fields(parser, TrainConfig, "")
    parser.set_defaults(func=lambda args: _run(args, plugin))


def _add_fields(parser: argparse.ArgumentParser, section: type[Options], prefix: str) -> None:
    group = parser.add_argument_group(prefix.rstrip(".") or "training")
    rows = {row["option"]: row for row in option_rows(section)}
    inner: list[tuple[str, type[Options]]] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Options):
            inner.append((name, kind))
            continue
        if not prefix and name in _OWN:
            continue
        row = rows[name]
        details = ", ".join(part for part in (row["range"], f"default {row['default']}") if part)
        group.add_argument(
            f"--{prefix}{name}".replace("_", "-"),
            dest=f"{_DEST}{prefix}{name}",
            default=argparse.SUPPRESS,
            help=f"{row['about']} ({details})".replace("%", "%%"),
            **flag_of(kind, row["type"].replace(" | ", "|") if " | " in row["type"] else "VALUE"),
        )
    for name, kind in inner:
        _add_fields(parser, kind, f"{prefix}{name}.")


def config_of(args: argparse.Namespace, plugin: type[Training]) -> TrainConfig:
    """The configuration that a command line asks for.

    Raises:
        ConfigError: the file or a value is wrong.
    """
    values: dict[str, Any] = read_toml(args.config) if args.config else {}
    for key, text in vars(args).items():
        if key.startswith(_DEST):
            *sections, name = key.removeprefix(_DEST).split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = read_flag(_kind_of(sections, name), text)
    values["use"] = _with_method(values.get("use", ()), args, plugin) + [parse_use(text) for text in args.use or ()]
    if args.data:
        values["data"] = [_source(text) for text in args.data]
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        raise ConfigError(explain_validation(error)) from None


def read_toml(path: str) -> dict[str, Any]:
    """A TOML file.

    Raises:
        ConfigError: it is not there, or is no TOML.
    """
    import tomllib

    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from None


def _with_method(uses: Any, args: argparse.Namespace, plugin: type[Training]) -> list[Any]:
    """The entries of ``use`` with the method's options, those of the file overridden by flags."""
    try:
        read = read_uses(uses)
    except ValueError as error:
        raise ConfigError(f"use: {error}") from None
    mine = [use for use in read if isinstance(use, Use) and use.plugin == plugin.name]
    if len(mine) > 1:
        raise ConfigError(f"the file uses {plugin.name} twice; a command takes one")
    given = dict(mine[0].options) if mine else {}
    flags = {key.removeprefix("option_"): value for key, value in vars(args).items() if key.startswith("option_")}
    options = options_of(args, plugin.Options, **{name: value for name, value in given.items() if name not in flags})
    entry = {"plugin": plugin.name, "options": options.model_dump(mode="json", exclude_unset=True)}
    return [entry] + [use for use in read if use not in mine]


def _kind_of(sections: Sequence[str], name: str) -> Any:
    """The annotation of a field of the configuration."""
    part: Any = TrainConfig
    for section in sections:
        part = part.model_fields[section].annotation
    return part.model_fields[name].annotation


def _source(text: str) -> dict[str, Any]:
    first = text.partition(",")[0].partition("=")[0]
    if "=" not in text or first not in Source.model_fields:
        return {"path": text}
    try:
        return dict(parse_use(f"data:{text}").options)
    except ValueError:
        raise ConfigError(
            f"data: {text!r} cannot be read: write path=photos,repeats=10, and put what has a comma in double quotes: "
            'path=photos,caption="a red robot, white background"'
        ) from None


def _run(args: argparse.Namespace, plugin: type[Training]) -> int:
    config = config_of(args, plugin)
    quiet = getattr(args, "quiet", False)

    def tell(text: str) -> None:
        if not quiet:
            complain(text)

    if args.dry_run:
        from .trial import dry_run

        report = dry_run(config, say=tell)
        say(table(report.rows()))
        return 0
    from .trainer import train

    result = train(config, resume=args.resume, say=tell, progress=not quiet)
    for path in result.files:
        say(path)
    tell(f"the report is {result.output / NAME}")
    return 0


def _list(known: Mapping[str, type[Training]]) -> int:
    for title, command in (("methods", True), ("parts", False)):
        say(f"{title}:")
        for name, plugin in known.items():
            if plugin.command == command:
                say(f"  {name}: {plugin.about}")
                for row in option_rows(plugin.Options):
                    say(f"    {row['option']} ({row['type']}, default {row['default']}): {row['about']}")
    return 0
