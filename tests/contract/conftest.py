from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
NUMPY = "ignore:__array_:DeprecationWarning"  # diffusers' schedulers and numpy 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(NUMPY))
