"""Content credentials (C2PA): signed manifests in what leaves, and what the manifests of others are worth.

Importing this imports neither c2pa nor cryptography; both come with the extra ``sdcore-watermark[c2pa]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .development import write_chains as write_chains
    from .existing import sign_file as sign_file
    from .options import Credentials as Credentials
    from .plugin import CredentialsPlugin as CredentialsPlugin
    from .signers import Signer as Signer
    from .signers import register_signer as register_signer
    from .store import Store as Store
    from .verifier import VerifyCredentials as VerifyCredentials

_HOME = {
    "Credentials": "options",
    "CredentialsPlugin": "plugin",
    "Signer": "signers",
    "Store": "store",
    "VerifyCredentials": "verifier",
    "register_signer": "signers",
    "sign_file": "existing",
    "write_chains": "development",
}

__all__ = [*sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
