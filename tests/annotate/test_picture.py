"""The picture of a recording: strips, colours by class, clocks."""

import numpy as np
import pytest

from xmoe.annotate.events import Event
from xmoe.annotate.picture import OTHERS, colours_of, draw_recording, format_clock
from xmoe.pictures.style import to_png

LEVEL_DB = np.random.default_rng(0).normal(-60, 6, (16, 400)).astype(np.float32)
CENTERS_HZ = np.linspace(100, 4000, 16)


def event(start_s, label, length_s=0.5):
    return Event(start_s, start_s + length_s, label, 0.9, 0.9, 1)


def draw(duration_s, events=()):
    return draw_recording(
        LEVEL_DB,
        column_s=duration_s / 400,
        duration_s=duration_s,
        bin_centers_hz=CENTERS_HZ,
        events=events,
        title="a recording",
    )


@pytest.mark.parametrize(("duration_s", "strips"), [(3.0, 1), (1800.0, 2), (86_400.0, 12)])
def test_long_recordings_are_broken_into_strips(duration_s, strips):
    figure = draw(duration_s, [event(duration_s / 2 - 0.1, "whale")])
    assert len(figure.axes) == strips
    assert to_png(figure)[:4] == b"\x89PNG"


def test_each_event_is_marked_in_the_strip_that_it_is_in():
    figure = draw(1800.0, [event(10.0, "a"), event(950.0, "b"), event(899.8, "a")])
    marks = [len(axes.patches) // 2 for axes in figure.axes]
    assert marks == [2, 2]
    assert min(patch.get_width() for patch in figure.axes[0].patches) > 1.0


def test_a_recording_without_events_or_columns_is_drawn():
    assert draw(3.0).legends == []
    empty = draw_recording(
        LEVEL_DB[:, :0],
        column_s=0.1,
        duration_s=1.0,
        bin_centers_hz=CENTERS_HZ,
        events=(),
        title="",
    )
    assert len(empty.axes) == 1


def test_commonest_classes_have_their_own_colour():
    events = [event(i, f"c{i % 11:02d}") for i in range(30)]
    colours = colours_of(events)
    assert list(colours.values()).count(OTHERS) == 3
    assert len(set(colours.values())) == 9


def test_clock():
    assert [format_clock(s) for s in (0, 65, 3725.4)] == ["0:00", "1:05", "1:02:05"]
