"""An application that embeds sdcore: jobs in a durable queue, a policy for every user, a gallery, and a page."""

from __future__ import annotations

from .app import create_app
from .config import Config, Limits, Policy

__all__ = ["Config", "Limits", "Policy", "create_app"]
