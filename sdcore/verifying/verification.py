"""Verification: everything that the verifiers found about one picture."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from .findings import EXIT_CODES, VERDICTS, Finding, Verdict, overall
from .subject import Subject

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 320


@dataclass(frozen=True, eq=False)
class Verification:
    """What was found about a picture.

    Attributes:
        name: the file's name.
        sha256: of its bytes, in hex.
        format: "png", "jpeg", "webp", ...
        size: (width, height) in pixels.
        verdict: about the whole, one of :data:`sdcore.verifying.VERDICTS`: the worst of what signatures say; without
            any signature, that of the rest.
        findings: verifier's name to what it found.
    """

    name: str
    sha256: str
    format: str
    size: tuple[int, int]
    verdict: Verdict
    findings: Mapping[str, Finding]
    _thumbnail: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, subject: Subject, findings: Mapping[str, Finding]) -> Verification:
        """From a picture and what was found about it."""
        verdict, small = overall(findings), small_jpeg(subject.image)
        # What decides comes first.
        findings = dict(sorted(findings.items(), key=lambda item: (not item[1].signed, item[0])))
        return cls(subject.name, subject.sha256, subject.format, subject.image.size, verdict, findings, small)

    @property
    def trusted(self) -> bool:
        """Whether somebody whom you trust has signed it, and nothing was changed since."""
        return self.verdict == "trusted"

    @property
    def meaning(self) -> str:
        """The verdict as a sentence."""
        return VERDICTS[self.verdict]

    @property
    def exit_code(self) -> int:
        """What ``sdcore verify`` returns for it."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "format": self.format,
            "size": list(self.size),
            "verdict": self.verdict,
            "meaning": self.meaning,
            "findings": {name: finding.to_dict() for name, finding in self.findings.items()},
        }

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_text(self) -> str:
        """For a terminal."""
        from .text import text_of

        return text_of(self)

    def to_html(self) -> str:
        """One page that needs nothing else: no script, no address, every text escaped, every picture made anew."""
        from .page import page_of

        return page_of(self, self._thumbnail)

    def __bool__(self) -> NoReturn:
        raise TypeError("a Verification is not true or false: use verification.trusted, or look at its verdict")


def small_jpeg(image: Image, side: int = THUMBNAIL) -> bytes:
    """A small copy of a picture as the bytes of a JPEG, without any metadata."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    small.info = {}
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()
