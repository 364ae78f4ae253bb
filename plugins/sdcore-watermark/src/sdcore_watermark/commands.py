"""The command ``sdcore watermark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdcore import OutputError, RequestError

from .keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image

    from .detection import Detection

NOT_FOUND, UNDECIDED = 3, 4
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the four commands."""
    from sdcore.cli.kit import add_engine_flags

    parser.description = "Make keys; mark pictures, look for marks, and measure how much marks bear."
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    keygen = commands.add_parser("keygen", help="make a key file, or rotate one", allow_abbrev=False)
    keygen.add_argument("file", help="of the key; mode 600, never overwritten")
    keygen.add_argument("--rotate", action="store_true", help="put a new secret before those in the file")
    keygen.set_defaults(func=_keygen)
    embed = commands.add_parser("embed", help="mark a picture, or a folder of them", allow_abbrev=False)
    _add_pictures(embed)
    embed.add_argument("-o", "--out", required=True, help="a file, or a folder for several pictures")
    embed.add_argument("--payload", type=_payload, default=0x1234ABCD, help="32 bits, such as 0x1234abcd")
    embed.add_argument("--psnr", type=float, default=40.0, help="decibels of the marked picture; lower is stronger")
    embed.add_argument("--quality", type=int, default=95, help="of JPEG and WebP")
    embed.add_argument("--overwrite", action="store_true", help="replace files that are there")
    embed.set_defaults(func=_embed)
    detect = commands.add_parser(
        "detect", help="look for marks; exit code 0 all found, 3 not, 4 cannot tell", allow_abbrev=False
    )
    _add_pictures(detect)
    detect.add_argument("--fpr", type=float, default=1e-6, help="rate of false alarms that can be borne")
    detect.add_argument("--search", choices=("fast", "auto"), default="auto", help="fast: no scales and turns")
    detect.add_argument("--payload", type=_payload, help="that is looked for, by schemes without a key")
    latent = detect.add_argument_group("--scheme latent", "the picture is carried back through the model that drew it")
    latent.add_argument("--prompt", default="", help="that it was drawn with, if known")
    latent.add_argument("--seed", type=int, help="that it was drawn with, if known")
    latent.add_argument("--steps", type=int, default=25, help="of the way back; each is a U-Net call")
    latent.add_argument("--decoder-steps", type=int, default=0, help="of descent through the decoder; 60 are many")
    add_engine_flags(detect)
    detect.set_defaults(func=_detect)
    bench = commands.add_parser("bench", help="measure what marks survive, on your pictures", allow_abbrev=False)
    from .bench.flags import add_flags

    add_flags(bench)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", help="files or folders: PNG, JPEG, WebP")
    parser.add_argument("--key", help="key file, or env:NAME; without one the public key is taken, with a warning")
    parser.add_argument(
        "--scheme", default="spread", help="spread, dwtdct, rivagan, trustmark, latent, or one installed"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _payload(text: str) -> int:
    value = int(text, 0)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 0xffffffff")
    return value


def _keygen(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import say

    key = Key.load(args.file).rotated() if args.rotate else Key.generate()
    path = key.save(args.file, overwrite=args.rotate)
    say(f"{path}  key {key.key_id}, {len(key.generations)} generations")
    return 0


def _key(args: argparse.Namespace) -> Key:
    import warnings

    from sdcore.cli.kit import complain

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        key = Key.public() if args.key is None else Key.load(args.key)
    if not args.quiet:
        for warning in caught:
            complain(f"warning: {warning.message}")
    return key


def _files(args: argparse.Namespace) -> list[Path]:
    found: list[Path] = []
    for name in args.pictures:
        path = Path(name).expanduser()
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise RequestError(f"there are no pictures ({', '.join(SUFFIXES)}) in {name}")
        found += inside
    return found


def _embed(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import say, to_json
    from sdcore.files import check_writable, make_folder, write_atomic
    from sdcore.picture_files import encode_image, format_of

    from .schemes import mark

    files, key = _files(args), _key(args)
    folder = len(files) > 1 or args.out.endswith("/") or Path(args.out).is_dir() or Path(args.pictures[0]).is_dir()
    out = make_folder(args.out) if folder else Path(args.out)
    targets = [out / file.name if folder else out for file in files]
    if len(set(targets)) < len(targets):
        raise OutputError("two pictures have the same name: write them to different folders")
    for target in targets:
        format_of(target)
        check_writable(target, args.overwrite)
    rows = []
    for image, target in zip(_loaded(files, args), targets, strict=True):
        made = mark(image, key, args.payload, args.scheme, args.psnr)
        data = encode_image(made.image, format_of(target), None, quality=args.quality)
        write_atomic(target, data, overwrite=args.overwrite)
        payload = None if made.payload is None else f"{made.payload:08x}"
        row = {"file": str(target), "scheme": args.scheme, "key_id": key.key_id, "payload": payload}
        rows.append(row | {"psnr": round(made.psnr, 2), "ssim": round(made.ssim, 4)})
        if not args.json:
            bears = "found only, no room for a payload" if payload is None else f"payload {payload}"
            say(f"{target}  {bears}, {made.psnr:.1f} dB, SSIM {made.ssim:.3f}")
    if args.json:
        say(to_json(rows))
    return 0


def _detect(args: argparse.Namespace) -> int:
    from sdcore.cli.kit import say, to_json

    if not 0 < args.fpr < 1:
        raise RequestError(f"--fpr {args.fpr:g}: a rate between 0 and 1, such as 1e-6")
    files, key = _files(args), _key(args)
    look, tells = _looker(args, key)
    rows, missing = [], 0
    for image, file in zip(_loaded(files, args), files, strict=True):
        found = look(image)
        there = found.found(args.fpr) if tells else None
        missing += not there
        rows.append({"file": str(file), "found": there} | found.to_dict())
        if not args.json:
            said = {True: "found", False: "not found", None: "cannot tell without --payload"}[there]
            payload = found.payload if there is not None else found.guess
            say(f"{file}  {said}, p {found.p_value:.1e}, payload {'-' if payload is None else f'{payload:08x}'}")
    if args.json:
        say(to_json(rows))
    return 0 if not missing else NOT_FOUND if tells else UNDECIDED


def _looker(args: argparse.Namespace, key: Key) -> tuple[Callable[[Image], Detection], bool]:
    """What looks at a picture, and whether it can tell that there is no mark."""
    from sdcore.cli.kit import load_engine

    from .schemes import LATENT, detect, scheme_of

    if args.scheme != LATENT:
        scheme = scheme_of(args.scheme)
        tells = scheme.tells or args.payload is not None
        return lambda image: detect(image, key, scheme, args.search, args.payload), tells
    if args.payload is not None:
        raise RequestError("--payload is for schemes without a key; scheme latent has one")
    from .latent.detecting import detect_latent

    engine = load_engine(args)
    told = {"steps": args.steps, "prompt": args.prompt, "seed": args.seed, "decoder_steps": args.decoder_steps}
    return lambda image: detect_latent(engine, image, key, **told), True


def _loaded(files: Sequence[Path], args: argparse.Namespace) -> Iterator[Image]:
    """The pictures one by one, with a progress bar for several."""
    from sdcore.cli.kit import open_bar
    from sdcore.images import load_image

    bar: Any = open_bar(len(files), "picture") if len(files) > 1 and not args.quiet else None
    try:
        for file in files:
            yield load_image(file, name=str(file))
            if bar is not None:
                bar.update(1)
    finally:
        if bar is not None:
            bar.close()
