"""What is visited when: each picture once an epoch, in an order that depends on the seed alone."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sdcore_train.data.draws import permutation, uniforms
from sdcore_train.data.order import Order, WeightedOrder, score_weights


def visits(order, numbers):
    return [[int(order.at(n).sequence[p]) for p in order.at(n).places] for n in numbers]


def test_draws_are_the_same_everywhere():
    # Fixed once: a changed value would change every training that is resumed.
    assert uniforms(3, "a", 1) == [0.10407165160767406, 0.8684348483517601, 0.28395415870602325]
    assert permutation(8, "a", 1).tolist() == [3, 1, 4, 0, 2, 5, 7, 6]


def test_draws_are_uniform_and_depend_on_every_part():
    draws = np.array([uniforms(2, "purpose", 0, place) for place in range(4000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.05
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.1 %
    assert len({uniforms(1, *parts)[0] for parts in ((0, 1), (1, 0), ("0", 11), (0,), (0, 1, ""))}) == 5
    first = Counter(int(permutation(4, seed)[0]) for seed in range(4000))
    assert all(850 < first[i] < 1150 for i in range(4))


def test_an_epoch_visits_each_picture_once_and_fills_the_last_batches_up():
    buckets = [list(range(10)), list(range(10, 17)), [17, 17, 18]]
    order = Order(3, buckets, 4)
    assert order.batches_per_epoch == 3 + 2 + 1
    for epoch in range(3):
        found = visits(order, range(6 * epoch, 6 * epoch + 6))
        for batch in found:
            assert len({next(i for i, b in enumerate(buckets) if one in b) for one in batch}) == 1
            assert len(batch) == 4
            # Filled up with others, where there are enough.
            assert batch[0] > 16 or len(set(batch)) == 4
        for bucket in buckets:
            seen = [one for batch in found for one in batch if one in bucket]
            extra = -len(bucket) % 4
            count = Counter(bucket)
            # All as often as they should be, and those at the front of the permutation once more.
            assert all(Counter(seen)[one] >= count[one] for one in bucket)
            assert len(seen) == len(bucket) + extra


def test_epochs_and_seeds_have_orders_of_their_own_and_sizes_are_mixed():
    buckets = [list(range(40)), list(range(40, 80))]
    order, other = Order(0, buckets, 4), Order(1, buckets, 4)
    epochs = [visits(order, range(20 * e, 20 * e + 20)) for e in range(2)]
    assert epochs[0] != epochs[1]
    together = [{frozenset(batch) for batch in epoch} for epoch in epochs]
    assert len(together[0] & together[1]) < 3
    assert epochs[0] != visits(other, range(20))
    kinds = [batch[0] < 40 for batch in epochs[0]]
    assert 5 < sum(a != b for a, b in pairwise(kinds)) < 19


def test_any_batch_can_be_asked_for_at_any_time():
    buckets = [list(range(11)), list(range(11, 20))]
    weights = [[1.0] * 11, [2.0] * 9]
    for make in (lambda: Order(5, buckets, 3), lambda: WeightedOrder(5, buckets, weights, 3)):
        whole = visits(make(), range(40))
        backwards = make()
        assert [visits(backwards, [n])[0] for n in reversed(range(40))] == whole[::-1]


def test_a_bucket_smaller_than_a_batch_is_repeated():
    assert sorted(visits(Order(0, [[5, 6]], 5), [0])[0])[0:2] == [5, 5]


def test_broken_pictures_are_replaced_by_the_next_and_each_is_tried_once():
    order = Order(0, [[0, 0, 1, 2, 3]], 5)
    planned = order.at(0)
    for slot in range(5):
        tried = list(planned.candidates(slot))
        assert sorted(tried) == [0, 1, 2, 3]
        assert tried[0] == planned.sequence[planned.places[slot]]
    follower = [int(planned.sequence[(planned.places[0] + i) % 5]) for i in range(5)]
    assert list(planned.candidates(0)) == list(dict.fromkeys(follower))


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_weighted_pictures_come_as_often_as_their_weight_says(power):
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    weights = score_weights(scores, power)
    assert weights == pytest.approx([((i + 1) / 8) ** power for i in range(8)])
    # In two buckets of different weight: the bucket is drawn, then the picture.
    order = WeightedOrder(11, [[0, 1, 2, 3, 4], [5, 6, 7]], [weights[:5], weights[5:]], 4)
    seen = Counter(one for batch in visits(order, range(5000)) for one in batch)
    share = np.array(weights) / sum(weights)
    # Batches are of one bucket, so that draws of a batch are not independent: wider than a binomial.
    for index in range(8):
        assert seen[index] / 20000 == pytest.approx(share[index], abs=0.012)
    assert order.batches_per_epoch == 2


def test_ranks_of_scores():
    assert score_weights([3.0, None, 1.0, 3.0], 1.0) == pytest.approx([2.5 / 3, 2 / 3, 1 / 3, 2.5 / 3])
    assert score_weights([None, None], 2.0) == [1.0, 1.0]
    assert score_weights([1.0, 1.0], 1.0) == [0.75, 0.75]
