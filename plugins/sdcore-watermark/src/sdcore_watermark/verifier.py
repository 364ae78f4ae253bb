"""The verifier ``watermark``: whether a picture bears the mark of a key."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sdcore import Asset, Options
from sdcore.verifying import Finding, Subject

from .keys import Key
from .schemes import detect


class VerifyWatermark(Options):
    """Which mark to look for."""

    key: Asset | None = Field(default=None, description="key file, or env:NAME; none: no mark is looked for")
    scheme: str = Field(default="spread", description="how pixels are marked")
    fpr: float = Field(default=1e-6, gt=0, lt=1, description="rate of false alarms that can be borne")
    search: Literal["fast", "auto"] = Field(default="auto", description="fast: no scales and turns")


def check(subject: Subject, options: VerifyWatermark | None) -> Finding:
    """Look for the mark of a key.

    Raises:
        RequestError: there is no such key or scheme.
    """
    options = options or VerifyWatermark()
    if options.key is None:
        return Finding("unchecked", "no key was given: --with watermark:key=mark.key")
    key = Key.load(options.key)
    found = detect(subject.image, key, options.scheme, options.search)
    facts = [("key", found.key_id), ("p-value", f"{found.p_value:.1e}")]
    if not found.found(options.fpr):
        return Finding("none", "it bears no mark of this key", tuple(facts), details=found.to_dict())
    if found.payload is not None:
        facts.append(("payload", f"{found.payload:08x}"))
    facts += [(name, str(value)) for name, value in found.geometry.items() if isinstance(value, bool | int | str)]
    whose = "the public key, which everybody has" if key.is_public else f"the key {found.key_id}"
    return Finding("present", f"it bears the mark of {whose}", tuple(facts), details=found.to_dict())
