"""Windows in time: how far apart, where each lies, and neighbours with one label as events."""

import pytest

from xmoe.config import SpectroConfig
from xmoe.errors import InputError
from xmoe.serve.schemas import WindowAnswer
from xmoe.serve.timeline import choose_hop_s, merge_events

SPECTRO = SpectroConfig(segment_s=1.0, segment_hop_s=0.5)


def window(start_s, label, probability=0.8):
    return WindowAnswer(
        start_s=start_s, end_s=start_s + 1.0, label=label, probability=probability, k=1
    )


@pytest.mark.parametrize(
    ("duration_s", "asked_s", "expected_s"),
    [(0.3, None, 0.5), (10.0, None, 0.5), (10.0, 0.25, 0.25), (101.0, None, 1.0), (10.0, 3.0, 3.0)],
)
def test_hop(duration_s, asked_s, expected_s):
    assert choose_hop_s(duration_s, SPECTRO, asked_s, 100) == pytest.approx(expected_s)


def test_too_many_windows_are_refused_with_a_hop_that_will_do():
    with pytest.raises(InputError) as caught:
        choose_hop_s(101.0, SPECTRO, 0.5, 100)
    assert caught.value.where == "hop_s"
    assert "at least 1" in (caught.value.mend or "")
    assert choose_hop_s(101.0, SPECTRO, 1.0, 100) == 1.0


def test_neighbours_with_one_label_are_one_event_that_ends_in_the_middle_of_an_overlap():
    windows = (window(0.0, "a", 0.6), window(0.5, "a", 0.8), window(1.0, "b"), window(1.5, "b"))
    events = merge_events(windows)
    assert [(e.start_s, e.end_s, e.label) for e in events] == [(0.0, 1.25, "a"), (1.25, 2.5, "b")]
    assert events[0].probability == pytest.approx(0.7)


def test_no_windows_no_events():
    assert merge_events(()) == ()
