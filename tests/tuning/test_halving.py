"""The half that lags is stopped, and a cheap trial does not lag for being less accurate."""

import numpy as np
import pytest

from xmoe.tuning.halving import Halving, beats, count_better, rung_epochs


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, []), (2, [1]), (3, [1, 2]), (6, [2, 4]), (30, [10, 20])]
)
def test_rungs_double_and_end_before_the_last_epoch(epochs, rungs):
    assert rung_epochs(epochs) == rungs


def test_points_beat_others_in_both_aims():
    assert beats((0.9, 1.0), (0.8, 1.0))
    assert beats((0.9, 1.0), (0.9, 2.0))
    assert not beats((0.9, 2.0), (0.8, 1.0))
    assert not beats((0.9, 1.0), (0.9, 1.0))


def test_points_in_better_layers_are_counted():
    first, second, third = [(0.9, 2.0), (0.5, 1.0)], [(0.8, 2.5), (0.4, 1.5)], [(0.3, 3.0)]
    points = [*third, *second, *first]
    assert [count_better(point, points) for point in first] == [0, 0]
    assert [count_better(point, points) for point in second] == [2, 2]
    assert count_better(third[0], points) == 4


def test_at_one_cost_layers_are_the_order_of_accuracy():
    values = np.random.default_rng(0).permutation(20) / 20
    points = [(float(value), 1.0) for value in values]
    for point in points:
        assert count_better(point, points) == sum(other[0] > point[0] for other in points)


def test_a_trial_that_is_beaten_stops_and_a_cheaper_one_does_not():
    halving = Halving(6)
    assert halving.goes_on("a", 2, (0.9, 3.0))
    assert not halving.goes_on("b", 2, (0.8, 3.0))
    assert halving.goes_on("c", 2, (0.5, 1.0))
    assert halving.goes_on("d", 2, (0.95, 3.0))


def test_the_better_half_goes_on():
    halving = Halving(2)
    went = [halving.goes_on(str(i), 1, (value, 1.0)) for i, value in enumerate((0.5, 0.9, 0.7))]
    assert went == [True, True, True]  # of three, one is better than the last
    assert not halving.goes_on("late", 1, (0.6, 1.0))


def test_nothing_is_stopped_between_rungs_and_no_trial_counts_twice():
    halving = Halving(6)
    assert halving.goes_on("a", 2, (0.9, 1.0))
    assert halving.goes_on("b", 1, (0.1, 1.0))
    assert not halving.goes_on("b", 2, (0.1, 1.0))
    assert halving.goes_on("a", 3, (0.0, 9.0))


def test_a_trial_that_is_heard_of_late_counts_at_the_rung_it_has_passed():
    halving = Halving(30)
    assert halving.goes_on("a", 10, (0.9, 1.0))
    assert not halving.goes_on("b", 11, (0.5, 1.0))
