"""Batches with a fixed number of pictures of some roles."""

from collections import Counter

import pytest
from sdcore_train.config import Source
from sdcore_train.data import DataError

from .kit import assert_same, break_body, data_of, pictures, take


@pytest.fixture
def sources(tmp_path):
    subject = pictures(tmp_path / "subject", [(16, 16)] * 4)
    others = pictures(tmp_path / "others", [(16, 16)] * 20)
    return Source(path=str(subject)), Source(path=str(others), role="class")


def test_every_batch_has_its_share(sources):
    data = data_of(*sources, shares={"class": 1}, batch_size=3)
    assert data.batches_per_epoch == 2  # of the subject
    batches = take(data, 20)
    assert all(batch.roles == ("", "", "class") for batch in batches)
    seen = Counter(key for batch in batches for key in batch.keys)
    assert sorted(seen.values()) == [1] * 20 + [10] * 4
    assert_same(take(data_of(*sources, shares={"class": 1}, batch_size=3), 5, 15), batches[15:])


def test_processes_have_their_share_each(sources):
    data = data_of(*sources, shares={"class": 1}, batch_size=2, processes=2)
    halves = [take(data, 10, process=process) for process in range(2)]
    assert all(batch.roles == ("", "class") for half in halves for batch in half)
    assert Counter(b.keys[1] for half in halves for b in half) == {r.key: 1 for r in data.records if r.role}


def test_a_broken_picture_is_replaced_by_one_of_its_role(sources, tmp_path):
    break_body(tmp_path / "others/000.png")
    batches = take(data_of(*sources, shares={"class": 2}, batch_size=3), 20)
    assert all(batch.roles == ("", "class", "class") for batch in batches)
    assert not any("others/000.png" in key for batch in batches for key in batch.keys)


def test_wrong_shares(sources, tmp_path):
    wrong = {
        "no place is left": {"shares": {"class": 2}, "batch_size": 2},
        "no source with the role 'other'": {"shares": {"other": 1}, "batch_size": 2},
    }
    for message, settings in wrong.items():
        with pytest.raises(DataError, match=message):
            data_of(*sources, **settings)
    with pytest.raises(DataError, match="all pictures have a role with a share"):
        data_of(sources[1], shares={"class": 1}, batch_size=2)
    mixed = pictures(tmp_path / "mixed", [(32, 32), (24, 40)])
    with pytest.raises(DataError, match=r"pictures of one size: set pictures\.buckets to false"):
        data_of(mixed, sources[1], shares={"class": 1}, batch_size=2, size=(32, 32))
