"""The reliability picture: measured points where they belong, and which way confidence leans."""

import numpy as np
import pytest

from xmoe.base.task import SingleLabel
from xmoe.metrics import compute_metrics
from xmoe.pictures.calibration import draw_calibration


def record(confidence, accuracy, **more):
    curve = {"confidence": [confidence], "accuracy": [accuracy], "count": [40]}
    return {"calibration": curve, "ece": abs(confidence - accuracy), **more}


def test_points_are_the_bins_of_the_record(rng, cut_off):
    p = rng.dirichlet(np.ones(3), 200)
    metrics = compute_metrics(p, rng.integers(0, 3, 200), task=SingleLabel(), num_bootstrap=20)
    figure = draw_calibration(metrics)
    points = figure.axes[0].containers[0].lines[0]
    assert points.get_xdata().tolist() == pytest.approx(metrics["calibration"]["confidence"])
    assert points.get_ydata().tolist() == pytest.approx(metrics["calibration"]["accuracy"])
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 200
    assert cut_off(figure) < 0.02


@pytest.mark.parametrize(
    ("confidence", "accuracy", "said"),
    [(0.9, 0.7, "20.0% too sure"), (0.6, 1.0, "40.0% too unsure"), (0.8, 0.8, "right on average")],
)
def test_the_title_says_which_way_confidence_leans(confidence, accuracy, said):
    assert said in draw_calibration(record(confidence, accuracy)).get_suptitle()


def test_the_interval_is_shown_where_there_is_one():
    title = draw_calibration(record(0.9, 0.7, ece_ci=[0.15, 0.25])).get_suptitle()
    assert title.startswith("Calibration error 0.200 (0.150 to 0.250)")
