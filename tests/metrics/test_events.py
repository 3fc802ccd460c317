"""Event-based figures on spans whose matching can be seen."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.metrics.events import EventScore, Span, overlaps, score_onsets, score_overlap


def test_overlap_is_intersection_over_union():
    ours = np.array([[0.0, 2.0], [5.0, 6.0]])
    theirs = np.array([[1.0, 3.0], [0.0, 2.0], [6.0, 7.0]])
    np.testing.assert_allclose(overlaps(ours, theirs), [[1 / 3, 1.0, 0.0], [0.0, 0.0, 0.0]])


def test_label_and_overlap_both_count():
    truth = [Span(0, 1, "a"), Span(5, 6, "b")]
    found = [Span(0.2, 1.2, "a"), Span(5, 6, "a"), Span(8, 9, "b")]
    score = score_overlap(found, truth)
    assert score == EventScore(1, 3, 2)
    assert (score.precision, score.recall) == (pytest.approx(1 / 3), 0.5)
    assert score.as_dict()["f1"] == pytest.approx(0.4)


def test_each_event_is_matched_once():
    truth = [Span(0, 1, "a")]
    assert score_overlap([Span(0, 1, "a"), Span(0, 0.9, "a")], truth).hits == 1


def test_matching_is_the_largest_not_the_first():
    truth = [Span(0, 1, "a"), Span(0.6, 1.6, "a")]
    found = [Span(0.3, 1.3, "a"), Span(-0.3, 0.7, "a")]
    assert score_overlap(found, truth).hits == 2


def test_onsets_within_the_collar():
    truth = [Span(1.0, 9.0, "a"), Span(20.0, 21.0, "a")]
    found = [Span(1.5, 2.0, "a"), Span(20.51, 21.0, "a")]
    assert score_onsets(found, truth).hits == 1
    assert score_onsets(found, truth, collar_s=0.6).hits == 2


def test_nothing_found_or_there():
    assert score_overlap([], []).as_dict()["f1"] == 0.0
    assert score_overlap([Span(0, 1, "a")], []).precision == 0.0
    assert score_onsets([], [Span(0, 1, "a")]).recall == 0.0


SPANS = st.lists(
    st.builds(
        lambda start, length, label: Span(start, start + length, label),
        st.floats(0, 4),
        st.floats(0.1, 2),
        st.sampled_from("ab"),
    ),
    max_size=4,
)


@given(SPANS, SPANS)
def test_hits_are_those_of_trying_every_matching(found, truth):
    def right(one, other):
        times = np.array([one[:2]]), np.array([other[:2]])
        return one.label == other.label and bool(overlaps(*times)[0, 0] >= 0.3)

    few, many = sorted((found, truth), key=len)
    best = max(
        sum(right(a, b) for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )
    assert score_overlap(found, truth).hits == best
