"""The plugin ``watermark``: marks what leaves, and says so in the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from sdcore import (
    Access,
    Change,
    Contributions,
    Options,
    Plugin,
    Problem,
    Registry,
    RequestError,
    Run,
    Verifier,
    hookimpl,
    ports,
)
from sdcore.stash import StateKey

from .keys import Key
from .options import Watermark

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore.stages import Picture

PUBLIC = "the mark is made with the public key, which everybody has: give key=, made by `sdcore watermark keygen`"

MARKS: StateKey[dict[int, dict[str, Any]]] = StateKey("marks")
SOURCE: StateKey[dict[str, Any] | None] = StateKey("source mark")


class WatermarkPlugin(Plugin):
    """Marks pixels after the safety checks, and, if asked, the noise that a picture is drawn from."""

    name: ClassVar[str] = "watermark"
    options: ClassVar[type[Options]] = Watermark
    access: ClassVar[Access] = Access(
        files=("read", "write"),
        weights=("onnx",),
        when="onnx: the schemes rivagan and trustmark; writes: sdcore watermark",
    )

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command and the schemes, by name: they are imported when they are used."""
        from .schemes import BUILTIN

        for name, value in BUILTIN.items():
            registry.add("watermark_scheme", name, value)
        registry.add("cli_command", "watermark", fill)
        here = "sdcore_watermark.verifier"
        verifier = Verifier(f"{here}:check", f"{here}:VerifyWatermark", "the invisible mark of a key")
        registry.add("verifier", "watermark", verifier)

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        """Refuse what would leave unmarked, or could not be marked."""
        options = _options(run)
        if run.outer is not None:
            return []
        found: list[Problem | Change] = [] if options.previews == "allow" else [Change(previews=False)]
        if run.request.output == "latent" and options.latent_output == "refuse":
            found.append(
                Problem("output='latent' would leave without a watermark: ask for images, or set latent_output='allow'")
            )
        try:
            key = _key(options)
            _scheme(run, options)
        except RequestError as error:
            return [*found, Problem(str(error))]
        if key.is_public:
            run.warn(PUBLIC)
        return found

    @hookimpl
    def latents(self, run: Run) -> Contributions:
        """Keyed signs for the initial noise."""
        options = _options(run)
        if not options.latent:
            return None
        from .latent.noise import keyed_noise

        key, top = _key(options), run.outer or run
        return ports.noise(lambda args: keyed_noise(args, key, _payload(top, options, key, args.seed)))

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        """The mark in the pixels."""
        options = _options(run)
        return ports.image(lambda picture, image: _mark(picture, image, options), phase="watermark")

    @hookimpl
    def output(self, run: Run) -> Contributions:
        """What was done, for the record and for content credentials."""
        return ports.metadata(_metadata)


def fill(parser: Any) -> None:
    """Make keys; mark pictures, look for marks, and measure how much marks bear."""
    from .commands import fill as fill_parser

    fill_parser(parser)


def _options(run: Run) -> Watermark:
    found = run.uses(Watermark)
    if len(found) > 1:
        raise RequestError(f"watermark is used {len(found)} times in one run; one mark is enough: keep one of them")
    return found[0]


def _key(options: Watermark) -> Key:
    return Key.public(quiet=True) if options.key is None else Key.load(options.key)


def _scheme(run: Run, options: Watermark) -> Any:
    from .schemes import scheme_of

    return scheme_of(options.scheme, run.registry.all("watermark_scheme"))


def _payload(run: Run, options: Watermark, key: Key, seed: int) -> int:
    """What the mark of a picture bears: given, or derived from what decides the picture, so that replay agrees."""
    if options.payload != "auto":
        return options.payload
    asked = run.asked
    told = [asked.prompt, asked.negative_prompt, seed, asked.steps, asked.scheduler, asked.guidance_scale]
    text = json.dumps([*told, asked.height, asked.width]).encode()
    return int.from_bytes(hashlib.blake2b(text, key=key.subkey("payload"), digest_size=4).digest(), "big")


def _mark(picture: Picture, image: Image, options: Watermark) -> Image:
    run = picture.run
    key = _key(options)
    scheme = _scheme(run, options)
    payload = _payload(run, options, key, picture.seed)
    told: dict[str, Any] = {"scheme": options.scheme, "key_id": key.key_id}
    run.state.make(MARKS, dict)[picture.index] = told
    if options.latent:
        told["latent"] = True
    try:
        marked = scheme.embed(image, key, payload % 2**scheme.bits, options.psnr)
    except RequestError as error:
        if options.unmarkable == "refuse":
            raise RequestError(f"{error}. Or set unmarkable='allow'") from error
        told["unmarked"] = str(error)
        run.warn(f"a picture leaves without a watermark: {error}")
        return image
    told["payload"] = None if marked.payload is None else f"{marked.payload:08x}"
    told |= {"psnr": round(marked.psnr, 2), "ssim": round(marked.ssim, 4)}
    if options.source:
        _look_at_source(run, key, scheme, told)
    result: Image = marked.image
    return result


def _look_at_source(run: Run, key: Key, scheme: Any, told: dict[str, Any]) -> None:
    """Say in the record whether the picture that the run started from bore a mark of this key."""
    source = run.asked.image
    if not hasattr(source, "convert"):
        return
    if SOURCE not in run.state:
        from .schemes import detect

        found = detect(source, key, scheme, search="fast")
        run.state[SOURCE] = found.to_dict() | {"bit_confidence": None} if found.found() else None
    mark = run.state[SOURCE]
    if mark is not None:
        told["source_mark"] = {name: mark[name] for name in ("scheme", "key_id", "payload", "p_value")}


def _metadata(picture: Picture) -> Mapping[str, Any] | None:
    return picture.run.state.get(MARKS, {}).get(picture.index)
