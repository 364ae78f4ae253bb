from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sdcore_train")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from .kit import draw_data

    return draw_data(tmp_path / "data")
