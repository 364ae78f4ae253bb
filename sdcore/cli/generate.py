"""``sdcore generate``: draw pictures."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore.errors import RequestError
from sdcore.files import check_writable, make_folder, write_atomic
from sdcore.picture_files import SUFFIXES, format_name, format_of
from sdcore.request import GenerateRequest

from .engine_flags import add_engine_flags, load_engine
from .output import Target
from .progress import Progress
from .request_flags import add_request_flags, request_of
from .terminal import cancelled_by_ctrl_c, say, to_json
from .trace_file import check_trace_file, write_trace

if TYPE_CHECKING:
    from sdcore.engine import Engine
    from sdcore.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a request, of an engine, and of the output."""
    add_request_flags(parser)
    add_engine_flags(parser)
    add_output_flags(parser)


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where pictures go."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--out", metavar="FILE|FOLDER/", help="where to; without it sdcore-SEED.png in the current folder"
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")
    group.add_argument("--quality", type=int, default=95, metavar="N", help="of JPEG and WebP, 1 to 100")
    group.add_argument("--sheet", metavar="FILE", help="write all pictures on one sheet too")
    group.add_argument("--preview-dir", metavar="FOLDER", help="write a small picture after every step")
    group.add_argument("--trace", metavar="FILE", help="write what each plugin did: as a picture (.png), .json or .txt")
    group.add_argument("--json", action="store_true", help="print a summary as JSON instead of the files' names")


def run(args: argparse.Namespace) -> int:
    """Draw, write, and print the names of the files."""
    draw(args, request_of(args))
    return 0


def draw(args: argparse.Namespace, request: GenerateRequest) -> tuple[Result, list[Path]]:
    """Carry out a request with the engine and the output that a command line asks for, and print the files' names.

    Everything that can be wrong with the output is found before the model is loaded.

    Args:
        args: of a parser with the flags of an engine and of the output.
        request: the request.

    Returns:
        The result, and the files: one a picture, then the sheet and the trace if they were asked for.
    """
    if request.seed is None and request.seeds is None:
        request = request.replace(seed=secrets.randbelow(2**32))
    first = request.seed or 0
    seeds = request.seeds or tuple(range(first, first + request.count))
    if not 1 <= args.quality <= 100:
        raise RequestError(f"--quality is {args.quality}; it must be from 1 to 100")
    latent = request.output == "latent"
    target = Target(args.out, seeds, overwrite=args.overwrite, suffix=".safetensors" if latent else ".png")
    if latent and (target.suffix != ".safetensors" or args.sheet):
        raise RequestError("latents are no pictures: end their file in .safetensors, and leave --sheet out")
    if args.sheet:
        format_of(args.sheet)
        check_writable(args.sheet, args.overwrite)
    if args.trace:
        check_trace_file(args.trace, args.overwrite)
    previews = make_folder(args.preview_dir) if args.preview_dir else None
    with load_engine(args) as engine:
        if not latent:
            _check_format(engine, request, target.suffix)
        with Progress(args.quiet, previews) as progress, cancelled_by_ctrl_c(engine):
            result = engine.generate(request, on_event=progress, trace=bool(args.trace))
        files = _write(result, target, args.quality)
        if args.sheet:
            files.append(_sheet(result, args))
        if result.trace is not None:
            files.append(write_trace(result.trace, args.trace, args.overwrite))
        if args.json:
            say(to_json(summary(result, files)))
        else:
            for file in files:
                say(file)
    return result, files


def _check_format(engine: Engine, request: GenerateRequest, suffix: str) -> None:
    """A suffix that nobody can write is an error before the run."""
    from sdcore import ports

    if suffix.lower() not in SUFFIXES and suffix[1:].lower() not in engine.host.registry.all("image_format"):
        if request.use and engine.explain(request).claimed(ports.serialize):
            return
        format_of(f"picture{suffix}")


def _write(result: Result, target: Target, quality: int) -> list[Path]:
    if not result.pictures:
        from sdcore.latent_files import encode_latents

        kept_back = {item.index for item in result.withheld}
        released = [index for index in range(result.request.count) if index not in kept_back]
        return [
            target.write(index, encode_latents(one[None])) for index, one in zip(released, result.latents, strict=True)
        ]
    kind = format_name(f"picture{target.suffix}")
    return [target.write(picture.index, picture.encode(kind, quality=quality)) for picture in result.pictures]


def _sheet(result: Result, args: argparse.Namespace) -> Path:
    from sdcore.images import contact_sheet
    from sdcore.picture_files import encode_image

    labels = [f"seed {seed}" for seed in result.seeds]
    sheet = contact_sheet(result.images, labels=labels, title=result.request.prompt or None)
    data = encode_image(sheet, format_of(args.sheet), None, quality=args.quality)
    return write_atomic(args.sheet, data, overwrite=args.overwrite)


def summary(result: Result, files: list[Path]) -> dict[str, Any]:
    """A result for programs: its files and what is known about each picture."""
    request = result.request.model_copy(update={"image": None}).to_dict
    return {
        "files": [str(file) for file in files],
        "pictures": [
            {
                "file": str(file),
                "seed": picture.seed,
                "index": picture.index,
                "pixels_sha256": picture.record.pixels_sha256,
                "reports": picture.reports,
                "verdicts": [vars_of(verdict) for verdict in picture.verdicts],
            }
            for file, picture in zip(files, result.pictures, strict=False)
        ],
        "withheld": [
            {"seed": item.seed, "index": item.index, "verdicts": [vars_of(verdict) for verdict in item.verdicts]}
            for item in result.withheld
        ],
        "lost_tokens": list(result.lost_tokens),
        "request": result.pictures[0].record.request if result.pictures else request(),
    }


def vars_of(verdict: Any) -> dict[str, Any]:
    """A verdict as JSON values."""
    return {"severity": verdict.severity, "check": verdict.check, "reason": verdict.reason}
