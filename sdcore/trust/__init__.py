"""What is installed, where it is from, whether it is what was reviewed: by hash, and without importing any of it."""

from __future__ import annotations

from .fingerprint import Fingerprint, fingerprint
from .lock import Lock, check_lock, differences, make_lock, read_lock
from .packages import Package, packages

__all__ = [
    "Fingerprint",
    "Lock",
    "Package",
    "check_lock",
    "differences",
    "fingerprint",
    "make_lock",
    "packages",
    "read_lock",
]
