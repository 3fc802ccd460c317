"""Rows -> events: thresholds, hysteresis, gaps, shortest length, background."""

import numpy as np
import pytest

from xmoe.annotate.events import MergeRules, Row, list_rows, merge_events


def rows(*probabilities, label="whale", step_s=0.5):
    return [Row(i * step_s, (i + 1) * step_s, label, p) for i, p in enumerate(probabilities)]


def spans(events):
    return [(event.start_s, event.end_s) for event in events]


def test_neighbours_become_one_event():
    (event,) = merge_events(rows(0.1, 0.6, 0.9, 0.2), MergeRules())
    assert (event.start_s, event.end_s, event.rows) == (0.5, 1.5, 2)
    assert (event.probability, event.peak) == (pytest.approx(0.75), 0.9)
    assert event.duration_s == 1.0


def test_threshold_is_that_of_the_class():
    rules = MergeRules(thresholds={"whale": 0.8}, threshold=0.3)
    assert merge_events(rows(0.7, 0.7), rules) == ()
    assert len(merge_events(rows(0.7, 0.1, 0.4, label="ship"), rules)) == 2


def test_event_goes_on_below_the_threshold_but_needs_it_once():
    rules = MergeRules(threshold=0.8, keep=0.5)
    assert spans(merge_events(rows(0.5, 0.9, 0.45, 0.3, 0.6, 0.6), rules)) == [(0.0, 1.5)]


def test_gaps_are_bridged_up_to_their_limit():
    heard = rows(0.9, 0.1, 0.9, 0.1, 0.1, 0.9)
    assert len(merge_events(heard, MergeRules())) == 3
    assert spans(merge_events(heard, MergeRules(max_gap_s=0.5))) == [(0.0, 1.5), (2.5, 3.0)]


def test_short_events_are_left_out_exactly():
    heard = rows(0.9, 0.1, 0.9, 0.9, step_s=0.1)
    assert spans(merge_events(heard, MergeRules(min_duration_s=0.2))) == [(0.2, 0.4)]
    assert len(merge_events(heard, MergeRules(min_duration_s=0.1))) == 2


def test_background_is_no_event():
    assert merge_events(rows(0.9, label="noise"), MergeRules(background=("noise",))) == ()


def test_classes_run_side_by_side_and_come_in_order():
    heard = sorted(rows(0.9, 0.9, 0.1) + rows(0.1, 0.8, 0.8, label="ship"))
    found = merge_events(iter(heard), MergeRules())
    assert [(e.label, e.start_s, e.end_s) for e in found] == [
        ("whale", 0.0, 1.0),
        ("ship", 0.5, 1.5),
    ]


def test_overlapping_windows_merge_too():
    heard = [Row(0.0, 1.0, "a", 0.9), Row(0.5, 1.5, "a", 0.9), Row(2.0, 3.0, "a", 0.9)]
    assert spans(merge_events(heard, MergeRules())) == [(0.0, 1.5), (2.0, 3.0)]


def test_nothing_is_nothing():
    assert merge_events([], MergeRules()) == ()


def test_empty_cells_have_no_row():
    cells_s = np.array([[0.0, 1.0], [1.0, 1.0]])
    (row,) = list_rows(np.full((2, 1), 0.9), cells_s, ("whale",), MergeRules())
    assert row == Row(0.0, 1.0, "whale", 0.9)
