"""The few that stand for many doubtful ones come first; strange ones and twins do not."""

import numpy as np
import pytest

from xmoe.batch.choose import Candidate, Shortlist, choose


def clusters(rng, sizes, *, spread=0.05):
    """Return features [n, 8] around far corners, so many around each."""
    centres = np.eye(8)[: len(sizes)] * 5
    rows = [centres[i] + spread * rng.standard_normal((n, 8)) for i, n in enumerate(sizes)]
    return np.concatenate(rows)


def test_every_cluster_is_labelled_once_the_largest_first(rng):
    sizes = (3, 12, 6)
    chosen, nearest = choose(clusters(rng, sizes), np.ones(21), 3)
    homes = np.repeat([0, 1, 2], sizes)
    assert homes[chosen].tolist() == [1, 2, 0]
    np.testing.assert_array_equal(np.bincount(nearest), [12, 6, 3])
    np.testing.assert_array_equal(homes[chosen[nearest]], homes)


def test_doubt_weighs_more_than_number(rng):
    features = clusters(rng, (4, 12))
    doubt = np.repeat([1.0, 0.1], (4, 12))
    chosen, _ = choose(features, doubt, 1)
    assert chosen[0] < 4


def test_a_lone_stranger_is_not_taken_before_a_group(rng):
    features = np.concatenate([clusters(rng, (5, 5)), np.full((1, 8), 40.0)])
    chosen, _ = choose(features, np.append(np.ones(10), 1.2), 2)
    assert 10 not in chosen


def test_twins_are_labelled_once(rng):
    features = np.repeat(rng.standard_normal((4, 8)), 5, axis=0)
    chosen, nearest = choose(features, np.ones(20), 4)
    assert sorted(chosen // 5) == [0, 1, 2, 3]
    assert np.bincount(nearest).tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_nobody_is_chosen_twice_even_where_all_are_alike(count):
    chosen, nearest = choose(np.zeros((5, 2)), np.zeros(5), count)
    assert len(set(chosen.tolist())) == min(count, 5)
    assert nearest.max() < len(chosen)


def test_greedy_choice_is_that_of_a_slow_search(rng):
    features, doubt = rng.standard_normal((12, 3)), rng.random(12)
    gaps = ((features[:, None] - features) ** 2).sum(2)
    likeness = np.exp(-gaps / np.median(gaps[gaps > 0]))
    slow = []
    for _ in range(4):
        worth = {
            i: (likeness[:, [*slow, i]].max(1) * doubt).sum() for i in range(12) if i not in slow
        }
        slow.append(max(worth, key=worth.__getitem__))
    assert choose(features, doubt, 4)[0].tolist() == slow


def test_a_shortlist_holds_the_most_doubtful_in_order(rng):
    doubt, features = rng.random(50), rng.standard_normal((50, 3)) * 7 + 2
    short = Shortlist(8)
    for index in range(50):
        short.add(Candidate(index, float(doubt[index]), features[index]))
    best = np.argsort(-doubt)[:8]
    assert [candidate.item for candidate in short] == best.tolist()
    assert short.count == 50
    scaled = (features - features.mean(0)) / features.std(0) / np.sqrt(3)
    np.testing.assert_allclose(short.scaled(), scaled[best], rtol=1e-9)


def test_of_equal_doubt_the_first_stays_and_a_constant_feature_is_no_reason_to_fail():
    short = Shortlist(2)
    for index in range(4):
        short.add(Candidate(index, 0.5, np.array([1.0, float(index)])))
    assert [candidate.item for candidate in short] == [0, 1]
    assert np.isfinite(short.scaled()).all()
    assert (short.scaled()[:, 0] == 0).all()
