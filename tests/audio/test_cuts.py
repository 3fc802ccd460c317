"""Where clips are cut: each holds its event whole, no other label, and background holds none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.audio.annotations import Annotation
from xmoe.audio.clip import AudioInfo
from xmoe.audio.cuts import Cut, cut_events, list_free, share_out, suggest_clip_s

INFO = AudioInfo(
    sample_rate_hz=100, channels=1, frames=1000, format="WAV", subtype="PCM_16", bit_depth=16
)


def cut(*spans, clip_s=1.0, info=INFO, seed=0):
    annotations = [Annotation(*span) for span in spans]
    return cut_events(annotations, info, clip_s, np.random.default_rng(seed))


@given(st.integers(0, 99), st.integers(0, 900), st.integers(0, 100))
def test_an_event_lies_whole_in_its_clip_and_the_clip_in_the_recording(seed, start, length):
    ((first, last, _),), mixed = cut((start / 100, (start + length) / 100, "a"), seed=seed)
    assert mixed == 0
    assert last - first == 100
    assert 0 <= first <= start
    assert start + length <= last <= 1000


def test_the_place_of_an_event_in_its_clip_is_drawn():
    starts = {cut((5.0, 5.2, "a"), seed=seed)[0][0].start for seed in range(200)}
    assert min(starts) < 425
    assert max(starts) > 495


def test_a_clip_keeps_clear_of_other_labels():
    for seed in range(50):
        cuts, mixed = cut((4.0, 4.8, "b"), (5.0, 5.5, "a"), (6.2, 7.0, "b"), seed=seed)
        (ours,) = [one for one in cuts if one.label == "a"]
        assert ours.start >= 480
        assert ours.end <= 620
        assert mixed == 0


def test_an_event_with_another_in_it_is_left_out():
    assert cut((5.0, 5.5, "a"), (5.4, 5.8, "b")) == ([], 2)
    cuts, mixed = cut((4.0, 4.9, "b"), (5.0, 5.5, "a"), (5.6, 6.5, "b"))
    assert [one.label for one in cuts] == ["b", "b"]
    assert mixed == 1


def test_two_events_of_one_label_do_not_disturb_each_other():
    cuts, mixed = cut((5.0, 5.5, "a"), (5.4, 5.8, "a"))
    assert (len(cuts), mixed) == (2, 0)


def test_a_long_event_gives_the_clips_that_fit_in_it():
    cuts, mixed = cut((2.0, 5.4, "a"), (3.0, 3.1, "b"))
    assert mixed == 2  # b, and the clip of a that b sounds in
    assert [one.start for one in cuts] == [320, 430]
    assert all(one.end - one.start == 100 for one in cuts)


def test_a_recording_shorter_than_a_clip_is_one_clip():
    assert cut((2.0, 3.0, "a"), clip_s=20.0) == ([Cut(0, 1000, "a")], 0)


def test_background_lies_side_by_side_where_nothing_is_annotated():
    spans = [Annotation(2.5, 4.0, "a"), Annotation(3.0, 3.5, "b"), Annotation(9.2, 9.4, "a")]
    places = list_free(spans, INFO, 1.0)
    assert places == [25, 125, 410, 510, 610, 710, 810]
    assert list_free([], INFO, 1.0) == list(range(0, 1000, 100))


@pytest.mark.parametrize(
    ("wanted", "room", "expected"),
    [(4, [2, 6], [1, 3]), (9, [2, 6], [2, 6]), (0, [3], [0]), (3, [0, 5, 0, 5], [0, 1, 0, 2])],
)
def test_background_is_shared_out_by_room(wanted, room, expected):
    assert share_out(wanted, room) == expected


@given(st.integers(0, 50), st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_no_recording_gives_more_than_it_has(wanted, room):
    given_ = share_out(wanted, room)
    assert sum(given_) == min(wanted, sum(room))
    assert all(0 <= taken <= there for taken, there in zip(given_, room, strict=True))


def test_clips_are_as_long_as_nine_of_ten_events():
    assert suggest_clip_s([Annotation(0, 0.11 * i, "a") for i in range(1, 11)]) == 1.1
    assert suggest_clip_s([Annotation(0, 0.01, "a")]) == 0.5
    assert suggest_clip_s([Annotation(0, 600, "a")]) == 10.0
    assert suggest_clip_s([]) == 1.0
