"""The error-correcting code."""

from __future__ import annotations

import numpy as np
import pytest
from sdcore_watermark.spread import code


def test_any_two_words_differ_in_twelve_bits() -> None:
    random = np.random.default_rng(0)
    rows = code.generator_matrix()
    info = random.integers(0, 2, (4000, code.INFO), dtype=np.uint8)
    weights = ((info @ rows) & 1).sum(1)
    assert weights[weights > 0].min() >= 12
    pairs = (rows[:, None] ^ rows[None]).sum(-1)
    assert pairs[~np.eye(code.INFO, dtype=bool)].min() >= 12
    assert np.array_equal(rows[:, : code.INFO], np.eye(code.INFO, dtype=np.uint8))


@pytest.mark.parametrize("payload", [0, 1, 0x1234ABCD, 2**32 - 1])
def test_noise_that_turns_six_bits_of_64_is_corrected(payload: int) -> None:
    random = np.random.default_rng(payload)
    word = code.encode(payload, 9).astype(float) * 2 - 1
    received = [word + random.normal(0, 0.75, 64) for _ in range(40)]
    reads = [code.decode(soft, 9) for soft in received]
    assert np.mean([read.error for read in reads]) > 0.07
    assert sum(read.payload == payload and read.checks for read in reads) >= 38
    assert not [read for read in reads if read.payload != payload and read.checks and min(read.confidence) > 0.99]


def test_soft_values_are_used() -> None:
    """Fourteen wrong bits are beyond the distance, but not if they are the unsure ones."""
    random = np.random.default_rng(1)
    soft = code.encode(77).astype(float) * 2 - 1
    wrong = random.choice(64, 14, replace=False)
    soft[wrong] *= -0.2
    assert code.decode(soft).payload == 77


def test_noise_is_seldom_taken_for_a_payload() -> None:
    random = np.random.default_rng(2)
    reads = [code.decode(random.normal(size=64)) for _ in range(200)]
    sure = [read for read in reads if read.checks and min(read.confidence) >= 0.9]
    assert len(sure) <= 10
    assert max(read.agreement for read in reads) < 0.9


def test_another_key_checks_otherwise() -> None:
    soft = code.encode(5, 3).astype(float) * 2 - 1
    assert code.decode(soft, 3).checks
    assert not code.decode(soft, 4).checks
