"""What a picture says about where it comes from, and whether that can be believed: ``sdcore.verify``.

Verifiers are registered by plugins (kind ``"verifier"``); the core brings the one that reads the record.
"""

from __future__ import annotations

from .checks import verify
from .findings import EXIT_CODES, VERDICTS, Ancestor, Finding, Verdict
from .subject import Subject
from .verification import Verification
from .verifier import Verifier

__all__ = ["EXIT_CODES", "VERDICTS", "Ancestor", "Finding", "Subject", "Verdict", "Verification", "Verifier", "verify"]
