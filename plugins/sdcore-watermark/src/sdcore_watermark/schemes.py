"""Schemes: ways of marking pixels, by name. The two functions that most users need: :func:`embed`, :func:`detect`."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sdcore import RequestError
from sdcore.plugin import nearest

from .detection import Detection, matching_p_value
from .keys import Key

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = "sdcore.watermark_schemes"
"""Entry-point group in which packages name their schemes, for use without an engine."""

LATENT = "latent"
"""Not among them: it needs the model, see :mod:`.latent`."""

BUILTIN: Mapping[str, str] = {
    "spread": "sdcore_watermark.spread.scheme:Spread",
    "dwtdct": "sdcore_watermark.backends.dwtdct:DwtDct",
    "rivagan": "sdcore_watermark.backends.rivagan:RivaGan",
    "trustmark": "sdcore_watermark.backends.trustmark:TrustMark",
}


@dataclass(frozen=True)
class Marked:
    """A marked picture: RGB, its PSNR in decibels and its SSIM (luma) against the unmarked one, and what it bears.

    ``payload`` is None where the scheme's mark had no room for it.
    """

    image: Image
    psnr: float
    ssim: float
    payload: int | None


class WatermarkScheme:
    """Base of schemes that mark pixels. Subclass it, and name it in :data:`GROUP` or in the registry of an engine
    (kind ``watermark_scheme``, value a subclass, an instance, or ``"module:Class"``).

    Attributes:
        name: as users write it.
        bits: of a payload.
        keyed: whether the key matters. Marks of schemes without one can be made and removed by everybody.
        steered: whether ``psnr`` is kept to.
        tells: whether :meth:`detect` can say that there is a mark without knowing its payload.
    """

    name: ClassVar[str] = ""
    bits: ClassVar[int] = 32
    keyed: ClassVar[bool] = True
    steered: ClassVar[bool] = True
    tells: ClassVar[bool] = True

    def embed(self, image: Image, key: Key, payload: int, psnr: float = 40.0) -> Marked:
        """Mark a picture (RGB), with the newest generation of the key.

        Raises:
            RequestError: this picture cannot be marked.
        """
        raise NotImplementedError

    def detect(self, image: Image, key: Key, search: str = "auto") -> Detection:
        """Look for the mark of the newest generation of the key in a picture (RGB)."""
        raise NotImplementedError


def known_schemes(registry: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Name to scheme: those in here, those of installed packages, those in ``registry``."""
    found: dict[str, Any] = dict(BUILTIN)
    for entry in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, entry.value)
    found.update(registry or {})
    return found


def scheme_of(scheme: str | WatermarkScheme, registry: Mapping[str, Any] | None = None) -> WatermarkScheme:
    """A scheme by its name.

    Raises:
        RequestError: there is none of that name, or what its package names is none.
    """
    if isinstance(scheme, WatermarkScheme):
        return scheme
    known = known_schemes(registry)
    if scheme == LATENT:
        raise RequestError(
            "scheme 'latent' marks the noise that a picture is drawn from, not its pixels: mark with "
            "Watermark(latent=True), look with detect_latent(engine, image, key) or "
            "`sdcore watermark detect --scheme latent`"
        )
    if scheme not in known:
        raise RequestError(f"there is no watermark scheme {scheme!r}.{nearest(str(scheme), known)}")
    value = known[scheme]
    if isinstance(value, str):
        module, _, attribute = value.partition(":")
        try:
            value = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise RequestError(f"watermark scheme {scheme!r} ({value}) cannot be loaded: {error}") from error
    made = value() if isinstance(value, type) else value
    if not isinstance(made, WatermarkScheme):
        raise RequestError(f"watermark scheme {scheme!r} is a {type(made).__name__}, no WatermarkScheme")
    return made


def mark(
    image: Image, key: Key, payload: int = 0x1234ABCD, scheme: str | WatermarkScheme = "spread", psnr: float = 40.0
) -> Marked:
    """Mark a picture, and say what became of it; see :func:`embed`."""
    chosen = scheme_of(scheme)
    _check_payload(payload, chosen)
    if not 20 <= psnr <= 60:
        raise RequestError(f"psnr is {psnr!r}; use 20 (plainly visible) to 60 (hardly there) decibels")
    return chosen.embed(image.convert("RGB"), _key(key), payload, psnr)


def embed(
    image: Image, key: Key, payload: int = 0x1234ABCD, scheme: str | WatermarkScheme = "spread", psnr: float = 40.0
) -> Image:
    """Mark a picture.

    Args:
        image: a picture of Pillow; transparency is dropped.
        key: who has it can find the mark.
        payload: what the mark bears, 32 bits.
        scheme: ``"spread"``, ``"dwtdct"``, ``"rivagan"``, ``"trustmark"``, or one that a package brings.
        psnr: of the marked picture, in decibels. 40 is hard to see, 36 stronger, 44 weaker.

    Returns:
        The marked picture, RGB. The same arguments give the same picture.

    Raises:
        RequestError: an argument is out of range, or the picture cannot be marked.
    """
    return mark(image, key, payload, scheme, psnr).image


def detect(
    image: Image,
    key: Key,
    scheme: str | WatermarkScheme = "spread",
    search: str = "auto",
    payload: int | None = None,
) -> Detection:
    """Look for a mark.

    Args:
        image: a picture of Pillow.
        key: all its generations are looked for; the p-value reckons with that.
        scheme: as in :func:`embed`.
        search: ``"fast"`` takes the picture as it is (or cropped, or mirrored); ``"auto"`` looks for scales and turns
            too, if that finds nothing.
        payload: that is looked for, drawn at random when it was made. For schemes without a key: the p-value is then
            that of so many bits which agree (:func:`~sdcore_watermark.detection.matching_p_value`).

    Raises:
        RequestError: an argument is out of range, or the scheme cannot be used.
    """
    if search not in ("fast", "auto"):
        raise RequestError(f"search is {search!r}; use 'fast' or 'auto'")
    chosen, picture = scheme_of(scheme), image.convert("RGB")
    if payload is not None:
        if chosen.keyed:
            raise RequestError(
                f"payload is {payload:#x}; {chosen.name} tells by its key whether the mark is there, without knowing "
                "the payload: leave it out, and compare what was read"
            )
        _check_payload(payload, chosen)
    generations = _key(key).split() if chosen.keyed else (_key(key),)
    best: Detection | None = None
    for one in generations:
        found = chosen.detect(picture, one, search)
        if best is None or found.p_value < best.p_value:
            best = found
    assert best is not None
    if payload is not None:
        return _compared(best, payload, chosen.bits)
    return replace(best, p_value=min(1.0, best.p_value * len(generations)))


def _check_payload(payload: int, scheme: WatermarkScheme) -> None:
    if isinstance(payload, bool) or not isinstance(payload, int) or not 0 <= payload < 2**scheme.bits:
        raise RequestError(f"payload is {payload!r}; {scheme.name} bears a whole number from 0 to {2**scheme.bits - 1}")


def _compared(found: Detection, payload: int, bits: int) -> Detection:
    """What was read, set against what is looked for."""
    read = found.payload if found.guess is None else found.guess
    if read is None:
        return found
    score = (bits - 2 * (read ^ payload).bit_count()) / bits**0.5
    p = matching_p_value(read, payload, bits)
    return replace(found, p_value=p, score=score, payload=payload if read == payload else None, guess=read)


def _key(key: Key) -> Key:
    if not isinstance(key, Key):
        raise RequestError(f"key is a {type(key).__name__}; use Key.load(path) or Key.generate()")
    return key
