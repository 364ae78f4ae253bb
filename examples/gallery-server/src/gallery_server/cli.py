"""The command ``gallery-server``: serve a data folder, and hand out keys."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from sdcore import SdcoreError
from sdcore.files import make_folder, write_atomic

from .accounts import Accounts
from .config import FILE, Config, ConfigError, first_config, read_config
from .database import Database


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="gallery-server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a data folder; a new one is filled first")
    serve.add_argument("--host", default="127.0.0.1", help="put a proxy that speaks TLS before any other address")
    serve.add_argument("--port", type=int, default=8765)
    serve.add_argument("--library", action="append", default=[], metavar="NAME=PATH", help="for a new data folder")
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="print a new key, once")
    add.add_argument("name")
    add.add_argument("--policy", help="of gallery.toml; the first one if left out")
    actions.add_parser("list")
    actions.add_parser("revoke").add_argument("name")
    for one in (serve, keys):
        one.add_argument("--data", type=Path, default=Path("gallery-data"), help="the data folder (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        return _serve(options) if options.command == "serve" else _keys(options)
    except (ConfigError, SdcoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except BlockingIOError:
        print(f"error: another process serves {options.data}: stop it, or take another --data", file=sys.stderr)
    return 1


def _serve(options: argparse.Namespace) -> int:
    import uvicorn

    from .app import create_app

    config = _prepare(options.data, options.library)
    database = Database(options.data / "gallery.sqlite")
    accounts = Accounts(database)
    print(f"Gallery: http://{options.host}:{options.port}", flush=True)
    if not accounts.all():
        key = accounts.add("first", next(iter(config.policies)))
        print(f"API key: {key}\n         (shown once; more: gallery-server keys add NAME)", flush=True)
    database.close()
    app = create_app(options.data, config)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=5)
    return 0


def _prepare(folder: Path, library: Sequence[str]) -> Config:
    """The configuration of a data folder; of a new one, what fits what is installed."""
    path = make_folder(folder) / FILE
    if not path.exists():
        known = {}
        for entry in library:
            name, equals, value = entry.partition("=")
            if not equals or not name or not value:
                raise ConfigError(f"--library {entry!r} is not NAME=PATH")
            known[name] = str(Path(value).resolve()) if Path(value).exists() else value
        key = folder.resolve() / "watermark.key"
        installed = _installed()
        if "watermark" in installed and not key.exists():
            from sdcore_watermark import Key

            Key.generate().save(key)
        write_atomic(path, first_config(installed, key, known).encode())
        print(f"A new data folder; what it may do is in {path}")
    return read_config(path)


def _installed() -> list[str]:
    """Names of the installed plugins, those that are broken too: a policy must not lose one because it is broken."""
    disabled = {name.strip() for name in os.environ.get("SDCORE_DISABLE", "").split(",")}
    return sorted({entry.name for entry in entry_points(group="sdcore.plugins")} - disabled)


def _keys(options: argparse.Namespace) -> int:
    config = _prepare(options.data, ())
    accounts = Accounts(Database(options.data / "gallery.sqlite"))
    if options.action == "list":
        for account in accounts.all():
            print(f"{account.name}\t{account.policy}")
    elif options.action == "add":
        policy = options.policy or next(iter(config.policies))
        if policy not in config.policies:
            raise ConfigError(f"there is no policy {policy!r}; there are {', '.join(config.policies)}")
        print(accounts.add(options.name, policy))
    elif not accounts.revoke(options.name):
        raise ConfigError(f"there is no key named {options.name!r}")
    return 0
