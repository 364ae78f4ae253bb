from __future__ import annotations

import pytest
import torch
from sdcore_dreambooth.prior import class_share, prior_weights


@pytest.mark.parametrize("kinds", [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 1, 1]])
def test_the_mean_of_a_batch_is_the_sum_of_two_means(kinds: list[int]) -> None:
    of_class = torch.tensor(kinds).bool()
    loss = torch.rand(len(kinds), generator=torch.Generator().manual_seed(1))
    found = (prior_weights(of_class, 0.3) * loss).mean()
    assert float(found) == pytest.approx(float(loss[~of_class].mean() + 0.3 * loss[of_class].mean()))


@pytest.mark.parametrize("one", [True, False])
def test_a_batch_of_one_kind_has_its_mean(one: bool) -> None:
    of_class = torch.tensor([one] * 3)
    loss = torch.tensor([1.0, 2.0, 6.0])
    assert float((prior_weights(of_class, 0.5) * loss).mean()) == pytest.approx(1.5 if one else 3.0)


@pytest.mark.parametrize(
    ("batch", "share", "many"), [(2, 0.5, 1), (2, 0.9, 1), (8, 0.25, 2), (8, 0.01, 1), (5, 0.5, 2)]
)
def test_every_batch_has_both_kinds(batch: int, share: float, many: int) -> None:
    assert class_share(batch, share) == many
