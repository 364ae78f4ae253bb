"""What verifiers find: a verdict out of a closed set, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal[
    "trusted",
    "valid-untrusted",
    "recovered",
    "recovered-untrusted",
    "altered",
    "invalid",
    "present",
    "none",
    "unchecked",
]

VERDICTS: Mapping[Verdict, str] = {
    "trusted": "signed by somebody whom you trust, and unchanged since",
    "valid-untrusted": "signed and unchanged since, by somebody whom nobody you trust vouches for",
    "recovered": "the file's own credential is gone or altered; the watermark leads to one that somebody whom you "
    "trust has signed. The pixels are not those that were signed",
    "recovered-untrusted": "as recovered, but nobody whom you trust vouches for the signer",
    "altered": "changed since it was signed or recorded",
    "invalid": "its credential is damaged, forged, or signed with a certificate that does not hold",
    "present": "it bears a mark or a record, which proves nothing by itself",
    "none": "nothing was found",
    "unchecked": "could not be looked at",
}
"""Every verdict, and what it means."""

EXIT_CODES: Mapping[Verdict, int] = {
    "trusted": 0,
    "none": 3,
    "valid-untrusted": 4,
    "recovered": 5,
    "recovered-untrusted": 6,
    "altered": 7,
    "invalid": 8,
    "present": 9,
    "unchecked": 10,
}
"""What ``sdcore verify`` returns; 1 and 2 stay for failures and for command lines that cannot be carried out."""


@dataclass(frozen=True)
class Ancestor:
    """A picture in the history of another one.

    Attributes:
        title: its name, as whoever signed wrote it.
        verdict: what its own credential is worth; ``none`` where it had none.
        signer: who signed it, empty if nobody.
        actions: what was done to make it, a line each.
        time: when it was signed, where a time-stamp says so.
        thumbnail: bytes of a small picture, untrusted; empty if there is none.
        parents: what it was made from.
    """

    title: str
    verdict: Verdict = "none"
    signer: str = ""
    actions: tuple[str, ...] = ()
    time: str = ""
    thumbnail: bytes = field(default=b"", repr=False)
    parents: tuple[Ancestor, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the thumbnail is left out."""
        return {
            "title": self.title,
            "verdict": self.verdict,
            "signer": self.signer,
            "actions": list(self.actions),
            "time": self.time,
            "parents": [parent.to_dict() for parent in self.parents],
        }


@dataclass(frozen=True)
class Finding:
    """What one verifier found.

    Attributes:
        verdict: one of :data:`VERDICTS`.
        summary: one sentence for a person.
        facts: (what, value) in the order in which a person reads them. Untrusted texts are fine: they are cleaned
            and escaped where they are shown.
        history: the picture and what it was made from.
        signed: whether it rests on a signature. Such findings decide about the whole.
        details: everything for programs: JSON values.
    """

    verdict: Verdict
    summary: str
    facts: tuple[tuple[str, str], ...] = ()
    history: tuple[Ancestor, ...] = ()
    signed: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict is {self.verdict!r}; it must be one of {', '.join(VERDICTS)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            "facts": [list(fact) for fact in self.facts],
            "history": [one.to_dict() for one in self.history],
            "signed": self.signed,
            "details": dict(self.details),
        }


_SIGNED_FIRST: tuple[Verdict, ...] = (
    "invalid",
    "altered",
    "recovered-untrusted",
    "recovered",
    "valid-untrusted",
    "trusted",
)
_UNSIGNED_FIRST: tuple[Verdict, ...] = ("invalid", "altered", "present", "none", "unchecked")


def overall(findings: Mapping[str, Finding]) -> Verdict:
    """The verdict about a picture: the worst of what signatures say; only without any, that of the rest.

    A record or a watermark cannot make a picture trusted, and cannot undo what a signature says either: whoever
    signed has seen them.
    """
    signed = {finding.verdict for finding in findings.values() if finding.signed}
    for verdict in _SIGNED_FIRST:
        if verdict in signed:
            return verdict
    rest = {finding.verdict for finding in findings.values()}
    for verdict in _UNSIGNED_FIRST:
        if verdict in rest:
            return verdict
    return "unchecked"  # something claims trust without a signature
