from __future__ import annotations

from collections.abc import Iterator

import pytest
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    """Without the progress bars and log lines of the peer."""
    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    yield
    diffusers_logging.set_verbosity(before[0])
    transformers_logging.set_verbosity(before[1])
    diffusers_logging.enable_progress_bar()
    transformers_logging.enable_progress_bar()
