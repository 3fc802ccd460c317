"""What the sets say together: folds count as one set, and one price holds for all."""

import pytest

from tests.benchmarks.conftest import load_benchmark


@pytest.fixture(scope="module")
def module():
    return load_benchmark("real_sets")


def figures(points, ends):
    """Figures of a run: its curve of (ms, accuracy), and the first and last depth."""
    (glance_ms, glance), (all_ms, everyone) = ends
    return {
        "curve": [{"mean_ms": ms, "accuracy": right} for ms, right in points],
        "everyone": {"mean_ms": all_ms, "accuracy": everyone},
        "ms_at_fixed_k": {"0": glance_ms, "2": all_ms},
        "accuracy_at_fixed_k": {"0": glance, "2": everyone},
    }


def test_folds_of_one_set_count_as_one(module):
    found = {"fsdd": {"x": 1.0}, "esc10-1": {"x": 0.2}, "esc10-2": {"x": 0.4}}
    assert module.mean_over_sets(found, lambda one: one["x"]) == pytest.approx(0.65)


def test_one_price_spends_where_it_promises_most(module):
    """At a quarter of the cost of both, one set asks everyone and the other its stem alone."""
    needs = figures([(10.0, 0.9), (10.0, 0.9), (1.0, 0.5)], [(1.0, 0.5), (10.0, 0.9)])
    knows = figures([(30.0, 0.8), (1.0, 0.8), (1.0, 0.8)], [(1.0, 0.8), (30.0, 0.8)])
    found = {"needs": needs, "knows": knows}
    routed, by_lot = module.spend_together(found, 11 / 40)
    assert routed == pytest.approx(0.85)
    assert by_lot == pytest.approx(0.65 + 0.2 * (5.5 - 1.0) / 19.0)


def test_all_of_the_cost_scores_what_all_score(module):
    run = figures([(10.0, 0.9), (4.0, 0.7), (1.0, 0.5)], [(1.0, 0.5), (10.0, 0.9)])
    assert module.spend_together({"a": run, "b": run}, 1.0) == pytest.approx((0.9, 0.9))
    assert module.spend_together({"a": run}, 0.01)[0] == pytest.approx(0.5)
