"""The pictures of K and of cost say in their titles what is seen."""

import numpy as np
import pytest

from xmoe.report.curves import draw_accuracy_by_k, draw_accuracy_by_ms, draw_k_by_snr


def test_chosen_point_stands_at_mean_k_and_accuracy():
    metrics = {"accuracy_at_fixed_k": {"10": 0.9, "2": 0.8, "0": 0.5}, "accuracy": 0.85}
    figure = draw_accuracy_by_k(metrics | {"mean_k": 0.75, "accuracy_ci": [0.8, 0.9]})
    line, point = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(line.get_xdata(), [0, 2, 10])
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.75, 0.85)
    assert "0.75 experts" in figure.get_suptitle()
    assert "the stem alone 50.0%" in figure.get_suptitle()


def test_accuracy_against_cost_shows_the_run_among_fixed_numbers_and_single_experts():
    metrics = {
        "accuracy_at_fixed_k": {"0": 0.5, "1": 0.7, "2": 0.8},
        "ms_at_fixed_k": {"0": 1.0, "1": 3.0, "2": 8.0},
        "curve": [{"mean_ms": 4.0, "accuracy": 0.78}, {"mean_ms": 1.0, "accuracy": 0.5}],
        "alone": {"low": 0.6, "high": 0.7},
        "ms_alone": {"low": 2.0, "high": 5.0},
        "accuracy": 0.78,
        "mean_ms": 4.0,
    }
    figure = draw_accuracy_by_ms(metrics)
    fixed, curve, point, *alone = figure.axes[0].lines
    np.testing.assert_array_equal(fixed.get_xdata(), [1.0, 3.0, 8.0])
    np.testing.assert_array_equal(curve.get_xdata(), [1.0, 4.0])
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (4.0, 0.78)
    assert [line.get_xdata()[0] for line in alone] == [3.0, 6.0]
    assert "78.0% for 4.0 ms" in figure.get_suptitle()


def test_k_is_averaged_over_equally_many_clips():
    snr_db = np.arange(32.0)
    figure = draw_k_by_snr(snr_db, (snr_db < 16) * 2.0)
    assert "asks 2.00 experts" in figure.get_suptitle()
    assert "cleaner half 0.00" in figure.get_suptitle()
    means = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(means.get_ydata(orig=False), [2, 2, 0, 0])


def test_one_clip_is_drawn_and_none_is_an_error():
    assert draw_k_by_snr([3.0], [1.0]).get_suptitle() == "K against SNR: one clip"
    with pytest.raises(ValueError, match="no clip"):
        draw_k_by_snr([np.nan], [1.0])
