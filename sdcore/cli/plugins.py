"""``sdcore plugins``: what is installed, and what a plugin takes."""

from __future__ import annotations

import argparse
import inspect
import warnings
from typing import TYPE_CHECKING, Any

from sdcore.discovery import PluginRecord
from sdcore.errors import PluginLoadError
from sdcore.plugin import nearest

from .engine_flags import add_plugin_flags, chosen_plugins
from .option_table import option_rows
from .terminal import say, table, to_json

if TYPE_CHECKING:
    from sdcore.host import PluginHost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action and the plugin's name."""
    parser.add_argument("action", nargs="?", choices=("list", "info"), default="list", help="list (default) or info")
    parser.add_argument("name", nargs="?", metavar="NAME", help="for info: the plugin")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--json-schema", action="store_true", help="for info: the JSON schema of the options")
    add_plugin_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print all plugins, or one."""
    from sdcore.host import PluginHost

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken ones are in the list
        host = PluginHost(chosen_plugins(args))
    if args.action == "info":
        return _info(host, args)
    records = list(host.records.values())
    if args.json:
        say(to_json([_facts(host, record) for record in records]))
    elif records:
        rows = [(r.name, r.version, r.distribution, ", ".join(r.hooks), _state(r)) for r in records]
        say(table(rows, ("name", "version", "package", "hooks", "state")))
    else:
        say("no plugins are installed; the engine works without any")
    return 0


def _info(host: PluginHost, args: argparse.Namespace) -> int:
    if args.name is None or args.name not in host.records:
        known = nearest(args.name or "", host.records)
        raise PluginLoadError(f"there is no plugin {args.name!r}.{known}" if args.name else f"which plugin?{known}")
    record = host.records[args.name]
    options = record.factory.options if record.factory else None
    if args.json_schema:
        say(to_json(options.model_json_schema() if options else {}))
    elif args.json:
        say(to_json(_facts(host, record)))
    else:
        _print(host, record)
    return 1 if record.error and not record.disabled else 0


def _print(host: PluginHost, record: PluginRecord) -> None:
    say(f"{record.name}: {record.label}, {_state(record)}")
    about = inspect.cleandoc(record.factory.__doc__ or "") if record.factory else ""
    if about:
        say(f"\n{about}")
    facts = [("class", record.origin), ("hooks", ", ".join(record.hooks) or "none")]
    facts += [("adds", f"{kind} {name}") for kind, name in _added(host, record.name)]
    say("\n" + table(facts))
    options = record.factory.options if record.factory else None
    if options is None:
        say("\nIt has no options." if record.factory else "\nIts options cannot be read.")
        return
    rows = [(row["option"], row["type"], row["default"], row["range"], row["about"]) for row in option_rows(options)]
    say("\n" + table(rows, ("option", "type", "default", "range", "what")))
    say(f"\nUse it: --use {record.name}{':' + rows[0][0] + '=...' if rows else ''}")


def _state(record: PluginRecord) -> str:
    if record.disabled:
        return "disabled"
    return f"broken: {record.error}" if record.error else "ok"


def _added(host: PluginHost, plugin: str) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name, owner in host.registry.owners() if owner == plugin]


def _facts(host: PluginHost, record: PluginRecord) -> dict[str, Any]:
    options = record.factory.options if record.factory else None
    return {
        "name": record.name,
        "version": record.version,
        "package": record.distribution,
        "class": record.origin,
        "state": "disabled" if record.disabled else "broken" if record.error else "ok",
        "error": record.error,
        "hooks": list(record.hooks),
        "adds": [{"kind": kind, "name": name} for kind, name in _added(host, record.name)],
        "options": option_rows(options) if options else [],
    }
