"""The command ``sdcore lora``: its sub-commands and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable

LAYOUTS = ("kohya", "diffusers", "peft")


def fill(parser: argparse.ArgumentParser) -> None:
    """look into LoRA files, merge, extract and convert them."""
    parser.description = "Look into LoRA files, merge them into models, extract them from models, convert them."
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    _inspect(commands.add_parser("inspect", help="what a file is and for which model", allow_abbrev=False))
    _merge(commands.add_parser("merge", help="write a model with LoRAs in its weights", allow_abbrev=False))
    _extract(commands.add_parser("extract", help="make a LoRA of the difference of two models", allow_abbrev=False))
    _convert(commands.add_parser("convert", help="write a LoRA in another layout", allow_abbrev=False))


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .safetensors file, or a folder of peft")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--model", help="a model (folder, file or name): also say what fits it")
    parser.add_argument("--allow-pickle", action="store_true", help="read .bin and .pt files too")
    _common(parser, "inspect")


def _merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a diffusers folder, a .safetensors checkpoint, or an installed model's name")
    parser.add_argument("lora", nargs="+", metavar="LORA[=WEIGHT]", help="such as style.safetensors=0.8")
    parser.add_argument("-o", "--out", required=True, help="the new folder, or the new file if the model is a file")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    _common(parser, "merge")


def _extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", help="the model that the LoRA will be used with")
    parser.add_argument("tuned", help="the model that it will imitate")
    parser.add_argument("-o", "--out", required=True, help="the new LoRA")
    parser.add_argument("--rank", type=int, default=16, help="of linear layers (16)")
    parser.add_argument("--conv-rank", type=int, help="of convolutions larger than 1x1 (as --rank; 0 leaves them out)")
    parser.add_argument("--layout", choices=LAYOUTS, default="kohya", help="of the file (kohya)")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="(float16)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    _common(parser, "extract")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a LoRA of any layout")
    parser.add_argument("-o", "--out", required=True, help="the new file; a folder for peft")
    parser.add_argument("--to", choices=LAYOUTS, required=True, dest="layout", help="its layout")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="of its tensors (as they are)")
    parser.add_argument("--model", help="the model that it is for; needed for the early numbered layout only")
    parser.add_argument("--allow-pickle", action="store_true", help="read .bin and .pt files too")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    _common(parser, "convert")


def _common(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress bar and no warnings"
    )
    parser.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help="tracebacks")

    def run(args: argparse.Namespace) -> int | None:
        from . import commands

        chosen: Callable[[argparse.Namespace], int | None] = getattr(commands, name)
        return chosen(args)

    parser.set_defaults(func=run)
