"""``sdcore plugins``: what is installed, what a plugin takes and touches, and a lock on all of it."""

from __future__ import annotations

import argparse
import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdcore.discovery import PluginRecord
from sdcore.errors import PluginLoadError, RequestError
from sdcore.files import write_atomic
from sdcore.plugin import nearest
from sdcore.trust import Fingerprint, Package, differences, fingerprint, make_lock, packages, read_lock
from sdcore.trust.claims import claimed_ports
from sdcore.trust.lock import NAME

from .engine_flags import add_plugin_flags, chosen_plugins
from .option_table import option_rows
from .terminal import say, table, to_json

if TYPE_CHECKING:
    from sdcore.access import Access
    from sdcore.host import PluginHost

Trust = Mapping[str, tuple[Package, Fingerprint]]
"""What was found out about packages before anything of them was imported, by name of the distribution."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action and what it is about."""
    actions = ("list", "info", "lock", "verify")
    parser.add_argument("action", nargs="?", choices=actions, default="list", help=f"{', '.join(actions)} (list)")
    parser.add_argument(
        "name", nargs="?", metavar="NAME|FILE", help=f"for info: the plugin; for lock and verify: the lock ({NAME})"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--json-schema", action="store_true", help="for info: the JSON schema of the options")
    parser.add_argument("--overwrite", action="store_true", help="for lock: replace the file if it exists")
    add_plugin_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print all plugins, or one; lock them, or compare them with a lock, which imports none."""
    if args.action == "lock":
        return _lock(args)
    if args.action == "verify":
        return _verify(args)
    from sdcore.host import PluginHost

    # Hashed first: a package that is not what was installed is not imported, and so cannot say that all is well.
    trust = {
        package.distribution.metadata["Name"] or "(unknown)": (package, fingerprint(package)) for package in packages()
    }
    refused = {
        name: f"{seen.changed[0]}; reinstall {package.name}" for name, (package, seen) in trust.items() if seen.changed
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken ones are in the list
        host = PluginHost(chosen_plugins(args), refused=refused)
    if args.action == "info":
        return _info(host, args, trust)
    records = list(host.records.values())
    if args.json:
        say(to_json([_facts(host, record, trust) for record in records]))
    elif records:
        header = ("name", "version", "package", "from", "hooks", "touches", "weights", "sha256", "state")
        say(table([_row(record, trust) for record in records], header))
        say("\ntouches and weights are what plugins declare; nothing enforces it. sdcore plugins lock pins them all.")
    else:
        say("no plugins are installed; the engine works without any")
    return 0


def _lock(args: argparse.Namespace) -> int:
    if args.plugin:
        raise RequestError("--plugin names a file, which a lock cannot hold: make a package of it")
    file = write_atomic(args.name or NAME, make_lock().to_json().encode(), overwrite=args.overwrite)
    lock = read_lock(file)
    if args.json:
        say(lock.to_json().rstrip())
        return 0
    rows = [(name, p.version, p.kind, p.sha256[:12], ", ".join(p.entry_points)) for name, p in lock.packages.items()]
    say(table(rows, ("package", "version", "hashed", "sha256", "provides")))
    say(f"\n{file}: run with --locked {file}, or Engine.load(locked=...)")
    return 0


def _verify(args: argparse.Namespace) -> int:
    file = args.name or NAME
    lock = read_lock(file)
    told = differences(lock)
    if args.json:
        say(to_json({"identical": not told, "differences": told}))
    else:
        for text in told:
            say(text)
        count = f"{len(told)} difference{'' if len(told) == 1 else 's'} from {file}"
        say(count if told else f"identical to {file}: {len(lock.packages)} packages")
    return 1 if told else 0


def _info(host: PluginHost, args: argparse.Namespace, trust: Trust) -> int:
    if args.name is None or args.name not in host.records:
        known = nearest(args.name or "", host.records)
        raise PluginLoadError(f"there is no plugin {args.name!r}.{known}" if args.name else f"which plugin?{known}")
    record = host.records[args.name]
    options = record.factory.options if record.factory else None
    if args.json_schema:
        say(to_json(options.model_json_schema() if options else {}))
    elif args.json:
        say(to_json(_facts(host, record, trust)))
    else:
        _print(host, record, trust)
    return 1 if record.error and not record.disabled else 0


def _print(host: PluginHost, record: PluginRecord, trust: Trust) -> None:
    say(f"{record.name}: {record.label}, {_state(record)}")
    about = inspect.cleandoc(record.factory.__doc__ or "") if record.factory else ""
    if about:
        say(f"\n{about}")
    facts = [("class", record.origin), ("hooks", ", ".join(record.hooks) or "none")]
    facts += [("ports", ", ".join(claimed_ports(record)) or "none")]
    facts += [("adds", f"{kind} {name}") for kind, name in _added(host, record.name)]
    access = _access(record)
    facts += [("touches", _touches(record)), ("weights", ", ".join(access.weights) if access else "undeclared")]
    facts += [("when", access.when)] if access and access.when else []
    if record.distribution in trust:
        package, seen = trust[record.distribution]
        facts += [("from", package.origin), ("sha256", f"{seen.sha256} ({seen.kind})")]
        facts += [("problem", problem) for problem in seen.problems]
    say("\n" + table(facts))
    options = record.factory.options if record.factory else None
    if options is None:
        say("\nIt has no options." if record.factory else "\nIts options cannot be read.")
        return
    rows = [(row["option"], row["type"], row["default"], row["range"], row["about"]) for row in option_rows(options)]
    say("\n" + table(rows, ("option", "type", "default", "range", "what")))
    say(f"\nUse it: --use {record.name}{':' + rows[0][0] + '=...' if rows else ''}")


def _row(record: PluginRecord, trust: Trust) -> tuple[str, ...]:
    access = _access(record)
    origin, digest = "-", "-"
    if record.distribution in trust:
        package, seen = trust[record.distribution]
        origin, digest = package.origin.partition(" ")[0], seen.sha256[:12]
    weights = (", ".join(access.weights) or "none") if access else "undeclared"
    hooks = ", ".join(record.hooks) or "-"
    named = (record.name, record.version, record.distribution)
    return (*named, origin, hooks, _touches(record), weights, digest, _state(record))


def _access(record: PluginRecord) -> Access | None:
    return record.factory.access if record.factory else None


def _touches(record: PluginRecord) -> str:
    access = _access(record)
    return "undeclared" if access is None else str(access)


def _state(record: PluginRecord) -> str:
    if record.disabled:
        return "disabled"
    return f"broken: {record.error}" if record.error else "ok"


def _added(host: PluginHost, plugin: str) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name, owner in host.registry.owners() if owner == plugin]


def _facts(host: PluginHost, record: PluginRecord, trust: Trust) -> dict[str, Any]:
    options = record.factory.options if record.factory else None
    access = _access(record)
    package, seen = trust.get(record.distribution, (None, None))
    return {
        "name": record.name,
        "version": record.version,
        "package": record.distribution,
        "class": record.origin,
        "state": "disabled" if record.disabled else "broken" if record.error else "ok",
        "error": record.error,
        "hooks": list(record.hooks),
        "ports": list(claimed_ports(record)),
        "adds": [{"kind": kind, "name": name} for kind, name in _added(host, record.name)],
        "options": option_rows(options) if options else [],
        "from": package.origin if package else None,
        "access": None
        if access is None
        else {
            "network": access.network,
            "files": list(access.files),
            "weights": list(access.weights),
            "when": access.when,
        },
        "sha256": seen.sha256 if seen else None,
        "hashed": seen.kind if seen else None,
        "problems": list(seen.problems) if seen else [],
    }
