"""Any two plugins go together on any family, and what each does shows."""

from __future__ import annotations

import pytest

from sdcore import SdcoreError
from sdcore.result import Result
from sdcore.testing.conformance.comparing import difference
from sdcore.testing.conformance.finding import find, names
from sdcore.testing.conformance.setting import FAMILIES, fingerprint

from .pairs import PAIRS, PLUGINS, REFUSED, Pair, carried_out, engine, setting


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_pair(pair: Pair) -> None:
    reason = REFUSED.get(frozenset((pair.one, pair.other)))
    if reason is not None:
        with pytest.raises(SdcoreError, match=reason) as told:
            carried_out(pair, pair.one, pair.other)
        assert pair.one in str(told.value)
        assert pair.other in str(told.value)
        return
    both = carried_out(pair, pair.one, pair.other)
    if pair.family == FAMILIES[0]:
        assert not difference(both, carried_out(pair, pair.one, pair.other)), "the second time gave something else"
    assert bool(both.latents.isfinite().all())
    for name, other in ((pair.one, pair.other), (pair.other, pair.one)):
        assert _reported(both, name) or _differs(pair, both, other), f"nothing is to be seen of {name}"


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_them_leave_the_model_as_it_was(family: str) -> None:
    model = setting(family).model
    before = fingerprint(model)
    for pair in (pair for pair in PAIRS if pair.family == family and "lora" in (pair.one, pair.other)):
        carried_out(pair, pair.one, pair.other)
    assert fingerprint(engine(family).model) == before


def test_no_plugin_is_left_out() -> None:
    ours = [found for found in map(find, names()) if found.found.distribution.startswith("sdcore-") and found.draws]
    assert sorted(found.name for found in ours) == sorted(PLUGINS)


def _reported(result: Result, name: str) -> bool:
    return any(report.get(name) for report in result.reports)


def _differs(pair: Pair, both: Result, without: str) -> bool:
    try:
        return bool(difference(both, carried_out(pair, without)))
    except SdcoreError:  # the request needs the other one: a word that nothing defines, a picture that grows
        return True
