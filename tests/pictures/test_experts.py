"""Expert usage: bars and cells hold the rates they were given."""

import numpy as np
import pytest

from xmoe.base.config import EXPERT_NAMES
from xmoe.pictures.experts import draw_expert_usage, draw_k_histogram

USAGE = {
    "selection_rate": {"low": 0.5, "fine_frequency": 0.25},
    "mean_k": 0.75,
    "load_balance": 0.918,
    "k_histogram": {"0": 2, "2": 6},
    "by_class": {
        "click": {"mean_k": 1.0, "selection_rate": {"low": 1.0, "fine_frequency": 0.0}},
        "tone": {"mean_k": 0.5, "selection_rate": {"low": 0.0, "fine_frequency": 0.5}},
    },
}


def test_bars_and_cells_hold_the_rates(cut_off):
    figure = draw_expert_usage(USAGE)
    bars, cells = figure.axes
    assert [bar.get_height() for bar in bars.patches] == [0.5, 0.25]
    assert np.asarray(cells.images[0].get_array()).tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert [label.get_text() for label in cells.get_yticklabels()] == [
        "click  (K 1.0)",
        "tone  (K 0.5)",
    ]
    assert "low is asked most" in figure.get_suptitle()
    assert cut_off(figure) < 0.02


def test_fifty_classes_and_eight_experts_fit(cut_off):
    rates = dict.fromkeys(EXPERT_NAMES, 0.1)
    by_class = {f"class {i}": {"mean_k": 1, "selection_rate": rates} for i in range(50)}
    figure = draw_expert_usage(USAGE | {"selection_rate": rates, "by_class": by_class})
    assert cut_off(figure) < 0.02


def test_experts_that_nobody_asks_are_said_so():
    nobody = dict.fromkeys(EXPERT_NAMES, 0.0)
    figure = draw_expert_usage(USAGE | {"selection_rate": nobody, "by_class": {}, "mean_k": 0.0})
    assert "none is asked" in figure.get_suptitle()


def test_the_histogram_fills_the_gaps_of_k(cut_off):
    figure = draw_k_histogram(USAGE)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [2, 0, 6]
    assert figure.get_suptitle() == "25% of the clips are answered by the stem alone; mean K 0.75"
    assert cut_off(figure) < 0.02


def test_an_empty_histogram_is_refused():
    with pytest.raises(ValueError, match="no clips"):
        draw_k_histogram({"k_histogram": {}, "mean_k": 0.0})
