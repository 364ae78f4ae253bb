"""Write docs/reference from the code: hooks, ports, plugins, request fields, schedulers. `--check` compares instead.

Run it with `make docs`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdcore.cli import COMMANDS
from sdcore.cli.option_table import option_rows
from sdcore.discovery import PluginRecord, discover, hook_methods
from sdcore.host import PluginHost
from sdcore.plugin import HOOKS, Options, Plugin
from sdcore.ports import PORTS, Port
from sdcore.request import ALIASES, GenerateRequest
from sdcore.schedulers import BUILTIN, SPACINGS
from sdcore.verifying import EXIT_CODES

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py (`make docs`) from the code; edit that. -->\n\n"


def hooks_page() -> str:
    """Every hook with its ports, its smallest example, and who uses it."""
    page = NOTE + (
        "# Hooks and ports\n\n"
        "A plugin overrides hooks; a hook contributes stages to ports; stages are plain functions that the engine "
        "calls, in an order that `sdcore explain` prints. All contributing hooks of a run are called before anything "
        "is computed, so conflicts are found first. [lifecycle](../explanation/lifecycle.md) shows when each fires.\n\n"
        "| kind | law |\n|---|---|\n"
        "| chain | value in, value out, folded in order; None means unchanged; shape, dtype and device must stay "
        "unless the port says otherwise; nothing is changed in place |\n"
        "| sum | all contributions are added, or merged by the law that the port states; None adds nothing; they "
        "commute |\n"
        "| choose | at most one claimant; a second one is an error before the run, naming both |\n"
        "| around | `fn(args, call_next)`: may change the arguments, call several times, or not at all |\n\n"
        "Order within a port: phase, then `before=`/`after=`, then the order in `use`, then name. What stages receive "
        "is described in [`sdcore/stages.py`](../../sdcore/stages.py).\n\n"
        "| hook | port | kind | stage |\n|---|---|---|---|\n"
    )
    for port in PORTS:
        page += f"| [{port.hook}](#{port.hook}) | {port.name} | {port.kind} | `{_cell(port.signature)}` |\n"
    for hook in HOOKS:
        page += "\n" + _hook(hook)
    return page


def _hook(hook: str) -> str:
    method = getattr(Plugin, hook)
    summary, sections = _sections(inspect.getdoc(method) or "")
    signature = f"{hook}{str(inspect.signature(method)).replace(chr(39), '')}"
    text = f"## {hook}\n\n```python\n@hookimpl\ndef {signature}: ...\n```\n\n{summary}\n\n"
    text += "".join(f"* **{title}:** {body}\n" for title, body in sections)
    ports = [port for port in PORTS if port.hook == hook]
    if ports:
        text += "\n| port | kind | stage | what it does |\n|---|---|---|---|\n" + "".join(_port(port) for port in ports)
    example = DOCS / "examples" / f"{hook}.py"
    source = example.read_text().split('"""', 2)
    text += f"\n{source[1].strip()}\n\n```python\n{source[2].strip()}\n```\n"
    return text + f"\nUsed by: {_users(hook)}.\n"


def _port(port: Port[Any]) -> str:
    doc = port.doc
    if port.phases:
        doc += f" Phases: {' → '.join(f'`{phase}`' for phase in port.phases)} (default `{port.default_phase}`)."
    if port.per_site:
        doc += " Takes `sites=`."
    return f"| `ports.{port.name}` | {port.kind} | `{_cell(port.signature)}` | {_cell(doc)} |\n"


def _sections(doc: str) -> tuple[str, list[tuple[str, str]]]:
    head, _, rest = doc.partition("\n\nWhen:")
    found: list[tuple[str, str]] = []
    for line in ("When:" + rest).splitlines():
        title, colon, body = line.partition(":")
        if colon and title in ("When", "Returns", "Order", "Errors"):
            found.append((title, body.strip()))
        elif line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return " ".join(head.split()), [(title, body.replace("``", "`")) for title, body in found]


def _ours() -> Iterator[tuple[PluginRecord, type[Plugin]]]:
    """The plugins of this repository that are installed, with their classes."""
    ours = {path.parent.name for path in DOCS.parent.glob("plugins/*/pyproject.toml")} | {"sdcore-template"}
    for record in discover():
        if record.distribution in ours and record.factory is not None:
            yield record, record.factory


def _users(hook: str) -> str:
    links = [f"[`{record.name}`](plugins.md#{record.name})" for record, made in _ours() if hook in hook_methods(made)]
    return ", ".join([*links, f"[docs/examples/{hook}.py](../examples/{hook}.py)"])


def plugins_page() -> str:
    """Every plugin of this repository: what it is, its hooks, its options."""
    page = NOTE + (
        "# Plugins\n\nWhat the packages of this repository bring, as `sdcore plugins info NAME` prints it for any. "
        'In Python `use=[Name(option=...)]`, on the command line `--use name:option=...`, in JSON `{"plugin": "name", '
        '"options": {...}}`.\n'
    )
    for record, made in _ours():
        page += f"\n## {record.name}\n\n{inspect.cleandoc(made.__doc__ or '').replace('``', '`')}\n\n"
        hooks = ", ".join(f"[{hook}](hooks.md#{hook})" for hook in hook_methods(made)) or "none"
        page += f"Package `{record.distribution}`; hooks: {hooks}.\n"
        page += _option_table(option_rows(made.options)) if made.options else "\nIt has no options.\n"
    return page


def request_page() -> str:
    """The fields of a request."""
    page = NOTE + (
        "# Request\n\nThe fields of `GenerateRequest`: keyword arguments of `engine.generate`, flags of `sdcore "
        "generate`, keys of a JSON request, and what the record keeps.\n\n"
        "| field | default | meaning |\n|---|---|---|\n"
    )
    for name, field in GenerateRequest.model_fields.items():
        default = "`()`" if name == "use" else f"`{field.default!r}`"
        page += f"| `{name}` | {default} | {_cell(field.description or '')}{_range(field)} |\n"
    page += "\nOther spellings that are accepted:\n\n| spelling | field |\n|---|---|\n"
    return page + "".join(f"| `{alias}` | `{name}` |\n" for alias, name in ALIASES.items())


def _range(field: Any) -> str:
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(mark, key)}" for mark in field.metadata for key, sign in limits.items() if hasattr(mark, key)
    ]
    return f" ({', '.join(found)})" if found else ""


def schedulers_page() -> str:
    """Names and spacings of the schedulers."""
    page = NOTE + '# Schedulers\n\n`scheduler="NAME"` or `"NAME-SPACING"`.\n\n| name | class | what |\n|---|---|---|\n'
    for name, spec in BUILTIN.items():
        page += f"| `{name}` | {str(spec.target).rpartition(':')[2]} | {_cell(spec.about)} |\n"
    page += "\n| spacing | sets |\n|---|---|\n"
    for name, config in SPACINGS.items():
        page += f"| `{name}` | {', '.join(f'`{key}={value!r}`' for key, value in config.items())} |\n"
    return page + "\nA spacing that a class does not have is refused, and the message lists those that it has.\n"


def cli_page() -> str:
    """Every command of the command line with its arguments."""
    page = NOTE + "# Command line\n\n`sdcore COMMAND --help` says the same. Exit codes: 0; 1 for a failure, or for a "
    page += "replay that differs; 2 for a request that cannot be carried out; 130 after Ctrl-C. "
    page += "`verify` returns that of its verdict: "
    page += ", ".join(f"{code} {verdict}" for verdict, code in EXIT_CODES.items()) + ".\n\n"
    page += "Every command, those of plugins too, takes `--quiet`, `--verbose` and "
    page += "`--locked FILE` ([lock the plugins](../how-to/lock-plugins.md)).\n"
    for name, about in COMMANDS.items():
        command = argparse.ArgumentParser(prog=f"sdcore {name}")
        importlib.import_module(f"sdcore.cli.{name}").add_arguments(command)
        page += f"\n## sdcore {name}\n\n{about[0].upper()}{about[1:]}.\n\n| argument | meaning |\n|---|---|\n"
        for action in command._actions:
            shown = ", ".join(action.option_strings) or str(action.metavar or action.dest).upper()
            value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            if action.option_strings and value and action.nargs != 0:
                shown += f" {value if isinstance(value, str) else ' '.join(value)}"
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                page += f"| `{_cell(shown)}` | {_cell((action.help or '').replace('%%', '%'))} |\n"
    page += "\n## Commands of plugins\n\nFlags of these: `--help`, their package, and [training](training.md).\n\n"
    page += "| command | what | package |\n|---|---|---|\n"
    for name, fill in sorted(PluginHost().registry.all("cli_command").items()):
        package = fill.__module__.partition(".")[0].replace("_", "-")
        about = (fill.__doc__ or "").strip().partition("\n")[0]
        link = f"[{package}](../../plugins/{package}/README.md)"
        page += f"| `sdcore {name}` | {_cell(about[:1].upper() + about[1:])} | {link} |\n"
    return page


def training_page() -> str:
    """Every method, part, port and field of sdcore-train, and of the packages that train with it."""
    from sdcore_train import TrainConfig, ports
    from sdcore_train.resolve import known_plugins

    page = NOTE + "# Training\n\n[How to train](../how-to/train.md) shows their use.\n"
    known = known_plugins()
    for title, command in (("Methods", True), ("Parts", False)):
        page += f"\n## {title}\n"
        for name, plugin in sorted(known.items()):
            if plugin.command == command:
                rows = option_rows(plugin.Options)
                page += f"\n### {name}\n\n{plugin.about[:1].upper()}{plugin.about[1:]}.\n"
                page += _option_table(rows) if rows else ""
    page += "\n## Configuration\n"
    for title, section in [("", TrainConfig), *_sections_of(TrainConfig)]:
        if title:
            page += f"\n### {title}\n"
        page += _option_table(option_rows(section))
    page += "\n## Ports\n\nLaws and order are those of the [engine's ports](hooks.md).\n\n"
    page += "| port | kind | stage | what it does |\n|---|---|---|---|\n"
    for port in ports.PORTS:
        page += f"| {port.name} | {port.kind} | `{_cell(port.signature)}` | {_cell(port.doc)} |\n"
    return page


def _sections_of(config: Any) -> list[tuple[str, Any]]:
    from sdcore_train import Source

    found = [(name, field.annotation) for name, field in config.model_fields.items() if _is_options(field.annotation)]
    return [("data (each source)", Source), *found]


def _is_options(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Options)


def _option_table(rows: list[dict[str, str]]) -> str:
    page = "\n| option | type | default | range | meaning |\n|---|---|---|---|---|\n"
    for row in rows:
        page += f"| `{row['option']}` | {' | '.join(_cell(row[k]) for k in ('type', 'default', 'range', 'about'))} |\n"
    return page


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {
    "cli.md": cli_page,
    "hooks.md": hooks_page,
    "plugins.md": plugins_page,
    "request.md": request_page,
    "schedulers.md": schedulers_page,
    "training.md": training_page,
}


def main() -> int:
    """Write the pages, or with ``--check`` say which are stale."""
    for source in (DOCS / "examples").glob("*.py"):
        ast.parse(source.read_text())
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / "reference" / name, make()
        if "--check" in sys.argv:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    if stale:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
