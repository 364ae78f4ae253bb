"""docs/conformance.md is about the plugins and checks that there are."""

from __future__ import annotations

from .table import is_fresh


def test_the_page_is_fresh() -> None:
    assert is_fresh(), "run `make conformance`"
