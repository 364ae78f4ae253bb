"""``sdcore schedulers``: their short names."""

from __future__ import annotations

import argparse

from sdcore.schedulers import SPACINGS

from .engine_flags import add_plugin_flags, chosen_plugins
from .terminal import say, table, to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose plugins, which may bring schedulers."""
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    add_plugin_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print names, what they are, and the suffixes."""
    from sdcore.host import PluginHost
    from sdcore.schedulers import register_builtin

    registry = PluginHost(chosen_plugins(args), before=register_builtin).registry
    owners = {name: owner for kind, name, owner in registry.owners() if kind == "scheduler"}
    rows = [
        (name, getattr(spec, "about", ""), owners[name] if owners[name] != "sdcore" else "")
        for name, spec in registry.all("scheduler").items()
    ]
    if args.json:
        say(to_json({"schedulers": {name: about for name, about, _ in rows}, "suffixes": list(SPACINGS)}))
        return 0
    say(table(rows, ("name", "what", "plugin") if any(owner for *_, owner in rows) else None))
    say(f"\nMost take a suffix: {', '.join('-' + suffix for suffix in SPACINGS)} (euler-karras, ddim-trailing).")
    return 0
