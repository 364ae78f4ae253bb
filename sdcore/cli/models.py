"""``sdcore models``: installed models, and what a model is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .terminal import amount, say, table, to_json

if TYPE_CHECKING:
    from sdcore.models import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action and the model."""
    parser.add_argument("action", nargs="?", choices=("list", "info"), default="list", help="list (default) or info")
    parser.add_argument("source", nargs="?", metavar="SRC", help="for info: as --model of generate; default: installed")
    parser.add_argument("--allow-pickle", action="store_true", help="read .ckpt and .bin files, which you trust")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the installed models, or one model."""
    if args.action == "info":
        from sdcore.models import load_model

        facts = describe(load_model(args.source, device="cpu", allow_pickle=args.allow_pickle))
        say(to_json(facts) if args.json else table(list(_lines(facts))))
        return 0
    from sdcore.models import default_of, installed_models

    models = installed_models()
    default = default_of(models)
    found = [
        {"name": m.name, "default": m == default, "package": m.distribution, "path": m.path, "error": m.error}
        for m in models
    ]
    if args.json:
        say(to_json(found))
    elif found:
        rows = [(m["name"], "yes" if m["default"] else "", m["package"], m["error"] or m["path"]) for m in found]
        say(table(rows, ("name", "default", "package", "where")))
    else:
        say("no model is installed: pip install sdcore-mini")
    return 0


def describe(model: Model) -> dict[str, Any]:
    """The facts about a model."""
    from sdcore.resolve import _native_size

    height, width = _native_size(model)
    hashes = model.hashes()
    return {
        "source": model.source,
        "family": model.family,
        "task": model.task,
        "size": f"{width}x{height}",
        "multiple of": model.vae_scale_factor,
        "latent channels": model.latent_channels,
        "prediction": model.scheduler_config.get("prediction_type"),
        "scheduler": model.scheduler_config.get("_class_name"),
        "text window": [tokenizer.model_max_length for tokenizer in model.tokenizers],
        "defaults": model.defaults,
        "components": {
            name: {
                "class": type(module).__name__,
                "parameters": sum(parameter.numel() for parameter in module.parameters()),
                "dtype": str(next(module.parameters()).dtype).removeprefix("torch."),
                "sha256": hashes[name],
            }
            for name, module in model.components.items()
        },
    }


def _lines(facts: dict[str, Any]) -> Any:
    for name, value in facts.items():
        if name == "components":
            for part, about in value.items():
                yield part, f"{about['class']}, {amount(about['parameters'])} parameters, {about['dtype']}"
                yield "", f"sha256 {about['sha256']}"
        elif isinstance(value, dict):
            yield name, ", ".join(f"{key}={item}" for key, item in value.items()) or "of the family"
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else value
