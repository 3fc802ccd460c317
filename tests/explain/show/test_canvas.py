"""Axes tell the truth in Hz and seconds, maps lie where they belong."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.explain.scales import scales_of
from xmoe.explain.show.canvas import draw_classes, draw_map, draw_spectrogram
from xmoe.pictures.style import new_figure


@pytest.fixture
def scales(subject):
    return scales_of(subject.frontend, 41, (1.0, 1.4))


def test_ticks_are_words_at_the_bins_of_their_frequency(scales, cut_off):
    figure = new_figure(6, 3)
    axes = figure.add_subplot()
    draw_spectrogram(axes, np.random.default_rng(0).standard_normal((32, 41)), scales)
    figure.draw_without_rendering()
    for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        number, unit = label.get_text().split()
        hertz = float(number) * (1000 if unit == "kHz" else 1)
        assert np.interp(place, np.arange(32), scales.bin_centers_hz) == pytest.approx(hertz)
    assert axes.get_xlabel() == "Time (s)"
    assert axes.get_xlim() == pytest.approx((1.0, 1.405))
    assert cut_off(figure) < 0.02


@pytest.mark.parametrize(("ends_s", "hatched"), [(1.25, (1.25, 1.405)), (1.4, None)])
def test_what_lies_behind_the_end_of_a_recording_is_hatched(scales, ends_s, hatched):
    axes = new_figure(6, 3).add_subplot()
    draw_spectrogram(axes, np.zeros((32, 41)), replace(scales, sound_ends_s=ends_s))
    spans = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    assert [patch.get_hatch() for patch in axes.patches] == ["////"] * (hatched is not None)
    assert [(span.x0, span.x1) for span in spans] == ([pytest.approx(hatched)] if hatched else [])
    assert [text.get_text() for text in axes.texts] == ["recording ends"] * (hatched is not None)


def test_a_map_is_drawn_over_the_cells_it_belongs_to(scales):
    axes = new_figure(6, 3).add_subplot()
    values = np.zeros((32, 41))
    values[9, 24] = 3.0
    draw_map(axes, values, scales)
    image = axes.images[0]
    assert image.get_extent() == pytest.approx([0.995, 1.405, -0.5, 31.5])
    assert np.argwhere(np.asarray(image.get_array()) == 1.0).tolist() == [[9, 24]]


def test_a_zero_map_draws_nothing(scales):
    axes = new_figure(6, 3).add_subplot()
    draw_map(axes, np.zeros((32, 41)), scales)
    assert not axes.images


def test_classes_fall_and_the_answer_has_its_own_colour():
    axes = new_figure(3, 3).add_subplot()
    draw_classes(axes, np.array([0.2, 0.7, 0.1]), ("a", "b", "c"), 1)
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.2, 0.1]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] != colours[1] == colours[2]


def test_only_the_ten_most_probable_classes_are_shown():
    axes = new_figure(3, 3).add_subplot()
    draw_classes(axes, np.full(50, 0.02), tuple(str(i) for i in range(50)), 0)
    assert len(axes.patches) == 10
