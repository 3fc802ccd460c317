"""The picture shows every trial where it was measured, the front, the choice and the budget."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from xmoe.pictures.style import RED, to_png
from xmoe.tuning.draw import AXIS, draw_trials


@pytest.fixture
def results(make_result, make_candidate):
    return [
        make_result(0, 0.80, 1.0),
        make_result(1, 0.95, 2.0, candidate=make_candidate(frontend="pcen")),
        make_result(2, 0.40, 5.0, finished=False),
    ]


def points(axes):
    return {
        tuple(map(float, row))
        for collection in axes.collections
        for row in np.asarray(collection.get_offsets())
        if len(row) and collection.get_label() in words(axes)
    }


def words(axes):
    (legend,) = axes.figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_every_trial_is_a_point_and_stopped_ones_are_named(results):
    (axes,) = draw_trials(results, results[1]).axes
    assert {(1.0, 0.8), (2.0, 0.95), (5.0, 0.4)} <= points(axes)
    legend = words(axes)
    assert {"logmel", "pcen", "logmel, stopped early", "nothing beats these"} <= set(legend)
    assert "budget" not in legend
    assert axes.get_xlabel() == AXIS["mmac"]


def test_latency_and_its_budget_are_drawn(results):
    (axes,) = draw_trials(results, results[0], "latency_ms", most=9.5).axes
    assert {(9.0, 0.8), (8.0, 0.95)} <= points(axes)
    (line,) = [line for line in axes.lines if to_hex(line.get_color()) == RED]
    assert list(line.get_xdata()) == [9.5, 9.5]
    assert axes.get_xlabel() == AXIS["latency_ms"]


def test_front_is_a_staircase_of_finished_trials(results):
    (axes,) = draw_trials(results, results[1]).axes
    (front,) = [line for line in axes.lines if line.get_label() == "nothing beats these"]
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(1.0, 0.8), (2.0, 0.95)]
    assert [text.get_text() for text in axes.texts] == ["0", "1"]


def test_same_trials_give_the_same_bytes(results):
    first, second = (to_png(draw_trials(results, results[1])) for _ in range(2))
    assert first == second
    assert len(first) < 200_000


def test_nothing_is_not_drawn(results):
    with pytest.raises(ValueError, match="no trials"):
        draw_trials([], results[0])
