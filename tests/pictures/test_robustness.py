"""The picture of robustness: a panel for each harm, and a title that says what hurts most."""

import pytest

from xmoe.pictures import draw_robustness, to_png
from xmoe.pictures.robustness import format_level, say_robustness


def point(level, accuracy):
    spread = [max(0.0, accuracy - 0.1), min(1.0, accuracy + 0.1)]
    return {"level": level, "accuracy": accuracy, "accuracy_ci": spread, "loss": 0.9 - accuracy}


def harm(title, unit, points, **more):
    return {"name": title, "title": title, "unit": unit, "points": points, **more}


RECORD = {
    "num_clips": 50,
    "clean": {"accuracy": 0.9},
    "harms": [
        harm("White noise", "dB SNR", [point(20.0, 0.9), point(0.0, 0.4)]),
        harm("Lower sample rate", "Hz", [point(4000.0, 0.8)], sense=""),
        harm("Low frequencies removed", "Hz", [point(125.0, 0.85)], sense="below"),
        harm("Clipped peaks", "share of samples", [point(0.001, 0.9)]),
        harm("Vorbis codec", "compression", [], absent="too fast"),
    ],
}


def test_a_panel_for_each_harm_that_was_measured():
    figure = draw_robustness(RECORD)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "White noise", "Lower sample rate", "Low frequencies removed", "Clipped peaks",
    ]  # fmt: skip
    assert list(shown[0].lines[1].get_ydata()) == [0.9, 0.4]
    assert to_png(figure)[:4] == b"\x89PNG"


def test_title_names_what_costs_most():
    assert say_robustness(RECORD) == (
        "90.0% right on 50 clean clips; most is lost to white noise (0 dB SNR): 50.0 points"
    )
    unhurt = {**RECORD, "harms": [harm("White noise", "dB SNR", [point(20.0, 0.95)])]}
    assert say_robustness(unhurt).endswith("no harm costs any of it")


def test_a_point_without_interval_is_drawn():
    alone = {**point(20.0, 0.9), "accuracy_ci": None}
    draw_robustness({**RECORD, "harms": [harm("White noise", "dB SNR", [alone])]})


@pytest.mark.parametrize(
    ("index", "expected"), [(1, "4 kHz"), (2, "below 125 Hz"), (3, "0.1 % of samples")]
)
def test_levels_are_said_with_their_unit(index, expected):
    assert format_level(RECORD["harms"][index], 0) == expected
