"""The front holds what nothing beats; the choice is the cheapest that ties with the best."""

import itertools

import numpy as np
import pytest

from xmoe.base.errors import ConfigError
from xmoe.tuning.pareto import choose_result, find_front, goal, standard_error


def numbers(results):
    return [one.number for one in results]


def test_front_is_cheapest_first_and_rises(make_result):
    results = [
        make_result(0, 0.90, 3.0),
        make_result(1, 0.80, 1.0),
        make_result(2, 0.85, 3.5),  # dearer and worse than 0
        make_result(3, 0.95, 5.0),
        make_result(4, 0.80, 2.0),  # dearer and no better than 1
    ]
    assert numbers(find_front(results)) == [1, 0, 3]


def test_front_by_latency_is_another(make_result):
    results = [
        make_result(0, 0.9, 1.0, latency_ms=9.0),
        make_result(1, 0.8, 2.0, latency_ms=3.0),
    ]
    assert numbers(find_front(results)) == [0]
    assert numbers(find_front(results, "latency_ms")) == [1, 0]


def test_of_equals_the_first_is_on_the_front(make_result):
    results = [make_result(4, 0.9, 1.0), make_result(2, 0.9, 1.0)]
    assert numbers(find_front(results)) == [2]


def test_front_is_that_of_comparing_every_pair(make_result):
    rng = np.random.default_rng(3)
    points = [(round(a, 2), round(c, 1)) for a, c in rng.uniform(0, 1, (80, 2))]
    results = [make_result(i, a, c) for i, (a, c) in enumerate(points)]
    beaten = {
        one.number
        for one, other in itertools.permutations(results, 2)
        if (other.accuracy, -other.mmac) != (one.accuracy, -one.mmac)
        and other.accuracy >= one.accuracy
        and other.mmac <= one.mmac
    }
    front = find_front(results)
    assert not beaten & set(numbers(front))
    left = {points[i] for i in range(len(points)) if i not in beaten}
    assert left == {points[one.number] for one in front}


def test_stopped_trials_are_on_no_front(make_result):
    results = [make_result(0, 0.5, 3.0), make_result(1, 0.99, 1.0, finished=False)]
    assert numbers(find_front(results)) == [0]


def test_the_cheapest_within_one_standard_error_is_chosen(make_result):
    results = [
        make_result(0, 0.80, 1.0),
        make_result(1, 0.945, 2.0),
        make_result(2, 0.95, 4.0, standard_error=0.01),
    ]
    assert choose_result(results).number == 1
    sure = results[2].model_copy(update={"standard_error": 0.001})
    assert choose_result([*results[:2], sure]).number == 2


def test_budget_leaves_the_dear_ones_out(make_result):
    results = [make_result(0, 0.8, 1.0), make_result(1, 0.95, 4.0)]
    assert choose_result(results, most=4.0).number == 1
    assert choose_result(results, most=3.9).number == 0


def test_no_trial_within_the_budget_is_an_error_that_names_it(make_result):
    with pytest.raises(ConfigError, match=r"no finished trial costs 0\.5 MMAC or less"):
        choose_result([make_result(0, 0.8, 1.0)], most=0.5)
    with pytest.raises(ConfigError, match="no trial finished"):
        choose_result([make_result(0, 0.8, 1.0, finished=False)])


def test_any_trial_within_the_budget_is_worth_more_than_one_beyond_it():
    assert goal(0.7, 9.0, None) == 0.7
    assert goal(0.7, 3.0, 3.0) == 0.7
    assert goal(0.99, 6.0, 3.0) == -1.0
    assert goal(0.99, 6.0, 3.0) < goal(0.99, 3.1, 3.0) < goal(0.0, 3.0, 3.0)


def test_standard_error_is_that_of_counting_and_never_zero():
    assert standard_error(0.9, 10_000) == pytest.approx(0.003, rel=0.01)
    assert standard_error(1.0, 300) == pytest.approx((302 * 2 / 304**3) ** 0.5)
    assert standard_error(0.0, 300) == pytest.approx(standard_error(1.0, 300))
