"""Flags that say which model and which plugins, and the engine made from them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdcore.errors import RequestError

from .terminal import complain

if TYPE_CHECKING:
    from sdcore.engine import Engine
    from sdcore.host import PluginHost
    from sdcore.plugin import Plugin


def add_plugin_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose plugins."""
    group = parser.add_argument_group("plugins")
    group.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="take the plugins in this file too"
    )
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--plugins", metavar="A,B", help="load no other installed plugins than these")
    chosen.add_argument("--no-plugins", action="store_true", help="load no installed plugins")


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a model, and those that choose plugins."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="SRC", help="a diffusers folder, a .safetensors checkpoint, an installed model, a hub id"
    )
    group.add_argument("--device", help="such as cpu or cuda")
    group.add_argument("--dtype", help="float32, float16 or bfloat16")
    group.add_argument(
        "--component", action="append", default=[], metavar="NAME=PATH", help="take a part from elsewhere: vae=PATH"
    )
    group.add_argument("--prediction-type", metavar="TYPE", help="epsilon or v_prediction, if the model does not say")
    group.add_argument("--allow-pickle", action="store_true", help="read .ckpt and .bin files, which you trust")
    add_plugin_flags(parser)


def chosen_plugins(args: argparse.Namespace) -> list[str | type[Plugin]] | None:
    """What ``Engine.load(plugins=...)`` is given; None for everything that is installed."""
    from sdcore.discovery import INSTALLED

    if args.plugin and getattr(args, "locked", None):
        raise RequestError("--plugin takes code from a file that no lock knows: leave it out, or leave --locked out")
    names: Sequence[str]
    if args.no_plugins:
        names = ()
    elif args.plugins is not None:
        names = [name.strip() for name in args.plugins.split(",") if name.strip()]
    elif not args.plugin:
        return None
    else:
        names = [INSTALLED]
    from .plugin_file import read_plugins

    return [*(plugin for file in args.plugin for plugin in read_plugins(file)), *names]


def load_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``Engine.load`` beside the source."""
    components: dict[str, object] = {}
    for text in args.component:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise RequestError(f"--component {text!r} has no '=': write it as vae=PATH")
        components[name.strip()] = path
    return {
        "device": args.device,
        "dtype": args.dtype,
        "components": components or None,
        "prediction_type": args.prediction_type,
        "allow_pickle": args.allow_pickle,
        "plugins": chosen_plugins(args),
    }


def load_engine(args: argparse.Namespace) -> Engine:
    """The engine that a command line asks for."""
    settings = load_settings(args)
    from sdcore.engine import Engine

    engine = Engine.load(args.model, **settings)
    if not args.quiet:
        warn_of_broken(engine.host)
    return engine


def warn_of_broken(host: PluginHost) -> None:
    """Name the plugins that are installed and cannot be used."""
    for record in host.records.values():
        if record.error and not record.disabled:
            complain(f"warning: plugin {record.name!r} ({record.label}) cannot be used: {record.error}")
