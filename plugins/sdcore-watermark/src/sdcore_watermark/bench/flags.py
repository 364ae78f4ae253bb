"""The command ``sdcore watermark bench``."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    from sdcore.cli.kit import add_engine_flags

    parser.description = "Mark pictures, attack them in every way known, and count what is found."
    parser.add_argument("--images", required=True, metavar="DIR", help="pictures, better 20 than 2")
    parser.add_argument("--size", type=int, help="make them so many pixels a side first: the middle square")
    parser.add_argument("--limit", type=int, help="take only so many of them")
    parser.add_argument("--schemes", help="comma-separated; default: spread and what of its peers is installed")
    parser.add_argument("--attacks", help="comma-separated; default: all")
    parser.add_argument("--psnr", type=float, default=40.0, help="decibels, for schemes that heed it")
    parser.add_argument("--fpr", type=float, default=1e-6, help="rate of false alarms")
    parser.add_argument("--search", choices=("fast", "auto"), default="auto", help="fast: no scales and turns")
    parser.add_argument("--clean", type=int, default=0, metavar="N", help="measure false alarms on N clean crops")
    parser.add_argument("--clean-auto", type=int, default=0, metavar="N", help="the same with search=auto (slow)")
    parser.add_argument("--averaging", type=int, default=0, metavar="N", help="average N marked pictures, and attack")
    parser.add_argument("--regenerate", action="store_true", help="redraw pictures with the model too")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--resume", metavar="FILE", help="keep figures there as they come, go on from what is there")
    parser.add_argument("--out", metavar="DIR", help="write the plot and the table there")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_engine_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Carry out the benchmark."""
    from sdcore.cli.kit import say
    from sdcore.files import check_writable, make_folder, write_atomic
    from sdcore_watermark.keys import Key

    from .attacks import ATTACKS
    from .subjects import default_names, subjects

    pictures = read_pictures(args.images, args.size, args.limit)
    names = args.schemes.split(",") if args.schemes else default_names()
    chosen = dict(ATTACKS) | ({} if not args.regenerate else _regenerations(args))
    if args.attacks:
        unknown = [name for name in args.attacks.split(",") if name not in chosen]
        if unknown:
            raise RequestError(f"there is no attack {unknown[0]!r}; known: {', '.join(chosen)}")
        chosen = {name: chosen[name] for name in args.attacks.split(",")}
    chosen = _possible(chosen)
    out = make_folder(args.out) if args.out else None
    targets = {kind: out / name for kind, name in (("plot", "bench.png"), ("table", "bench.txt"))} if out else {}
    targets |= {"json": Path(args.json)} if args.json else {}
    for target in targets.values():
        check_writable(target, args.overwrite)
    key = Key((random.Random(0).randbytes(32),))
    report = _measure(args, pictures, subjects(names, key, args.psnr, args.fpr, args.search), chosen)
    text = as_text(report)
    say(text)
    for kind, target in targets.items():
        write_atomic(target, _content(kind, report, text), overwrite=args.overwrite)
    return 0


def _content(kind: str, report: dict[str, Any], text: str) -> bytes:
    from sdcore.picture_files import encode_image

    from .plot import plot

    if kind == "plot":
        return encode_image(plot(report), "png", None)
    return ((json.dumps(report, indent=1) if kind == "json" else text) + "\n").encode()


def _measure(args: argparse.Namespace, pictures: dict[str, Image], chosen: list[Any], attacks: Any) -> dict[str, Any]:
    from sdcore.cli.kit import open_bar

    from .averaging import CROPS, averaging
    from .cells import Cells, digest
    from .measure import measure, payload_of
    from .null import false_alarms

    settings = f"{args.psnr:g} {args.fpr:g} {args.search} {args.model}"
    cells = Cells(Path(args.resume) if args.resume else None, settings)
    extra = args.clean + args.clean_auto + (len(chosen) * (args.averaging + CROPS) if args.averaging else 0)
    total = len(chosen) * len(pictures) * len(attacks) + extra
    bar: Any = None if args.quiet else open_bar(total, "look")
    tick = bar.update if bar is not None else lambda: None
    report: dict[str, Any] = {"fpr": args.fpr, "psnr": args.psnr, "pictures": list(pictures), "schemes": {}}
    report["size"] = sorted({image.size for image in pictures.values()})
    try:
        for name, (quality, told) in measure(chosen, pictures, attacks, tick, cells).items():
            summaries = {attack: cell.summary() for attack, cell in told.items()}
            report["schemes"][name] = {"quality": quality.summary(), "attacks": summaries}
        images, digests = list(pictures.values()), " ".join(digest(image) for image in pictures.values())
        for subject in chosen if args.averaging else ():
            made = cells.get("averaging", subject.name, args.averaging, digests)
            if made is None:
                payloads = [payload_of(name) for name in pictures]
                made = averaging(subject, images, payloads, args.averaging, tick)
                cells.put(made, "averaging", subject.name, args.averaging, digests)
            report["schemes"][subject.name]["averaging"] = made
        for count, search in ((args.clean, "fast"), (args.clean_auto, "auto")):
            if count:
                made = cells.get("false alarms", search, count, digests)
                if made is None:
                    made = false_alarms(images, count, search, tick)
                    cells.put(made, "false alarms", search, count, digests)
                report[f"false_alarms_{search}"] = made
    finally:
        if bar is not None:
            bar.close()
    return report


def _regenerations(args: argparse.Namespace) -> dict[str, Any]:
    from sdcore.cli.kit import load_engine

    from .regeneration import regenerations

    return regenerations(load_engine(args))


def _possible(attacks: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that need a library that is not there."""
    import importlib.util

    return {name: a for name, a in attacks.items() if name != "noise+nlm" or importlib.util.find_spec("cv2")}


def read_pictures(folder: str, size: int | None, limit: int | None) -> dict[str, Image]:
    """The pictures of a folder by name, in order of their names; with ``size`` the middle squares.

    Raises:
        RequestError: there is no such folder, or there are no pictures in it.
    """
    from PIL import Image as PIL

    from sdcore.images import load_image

    path = Path(folder).expanduser()
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else []
    if not files:
        raise RequestError(f"there are no pictures ({', '.join(SUFFIXES)}) in {folder}")
    found = {}
    for file in files[:limit]:
        image = load_image(file, name=str(file))
        if size:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side)).resize((size, size), PIL.Resampling.LANCZOS)
        found[file.stem] = image
    return found


def as_text(report: dict[str, Any]) -> str:
    """The report as tables."""
    from sdcore.cli.kit import table

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    schemes = report["schemes"]
    rows = []
    for attack in next(iter(schemes.values()))["attacks"]:
        cells = [told["attacks"][attack] for told in schemes.values()]
        rows.append([attack, *(" / ".join(shown(cell[k]) for k in ("tpr", "exact", "bit_accuracy")) for cell in cells)])
    header = [f"TPR / payload read / bit accuracy at FPR {report['fpr']:g}", *schemes]
    quality = [
        [name, *(shown(told["quality"][k]) for k in ("psnr", "psnr_min", "ssim", "ssim_min", "seconds"))]
        for name, told in schemes.items()
    ]
    parts = [table(rows, header), table(quality, ["marking", "psnr", "min", "ssim", "min", "seconds"])]
    parts += [f"{name}: averaging {told['averaging']}" for name, told in schemes.items() if "averaging" in told]
    parts += [f"{name}: {value}" for name, value in report.items() if name.startswith("false_alarms")]
    return "\n\n".join(parts)
