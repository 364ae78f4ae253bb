from __future__ import annotations

from collections.abc import Iterator

import pytest
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's caches or reaches a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SDCORE_MODEL", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    return
