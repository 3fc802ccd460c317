"""Windows in time: how far apart, where each lies, and neighbours of one class as events."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.annotate.events import MergeRules
from xmoe.audio.segment import Segment
from xmoe.base.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.base.errors import InputError
from xmoe.base.task import SingleLabel
from xmoe.predict.answer import SegmentAnswers
from xmoe.serve.http.timeline import choose_hop_s, find_events, list_windows
from xmoe.serve.router.router import Served

SPECTRO = SpectroConfig(segment_s=1.0, segment_hop_s=0.5)


CLASSES = ("a", "b", "noise")


def served(starts_s, rows):
    """Answers to segments of 1 s whose probabilities are ``rows`` [n, 3]."""
    n = len(rows)
    answers = SegmentAnswers(
        logits=torch.tensor(rows).log(),
        k=torch.ones(n, dtype=torch.long),
        weights=torch.ones(n, 1),
        missing=torch.zeros(n, 1, dtype=torch.bool),
        saliency_share=torch.ones(n),
    )
    segments = [Segment(np.zeros(100, np.float32), 100, round(100 * s)) for s in starts_s]
    return Served(segments, answers, {})


@pytest.fixture
def predictor():
    """What the timeline asks of a predictor: its configuration and task."""
    model = ModelConfig(num_classes=3, experts=cnn_specs("low"), k_max=1)
    config = RunConfig(classes=CLASSES, spectro=SPECTRO, model=model, train=TrainConfig())
    return SimpleNamespace(config=config, task=SingleLabel())


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


A, B, NOISE, NEITHER = (0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.0, 0.1, 0.9), (0.4, 0.3, 0.3)


def test_neighbours_of_one_class_are_one_event_that_ends_in_the_middle_of_an_overlap(predictor):
    answers = served((0.0, 0.5, 1.0, 1.5), (A, (0.6, 0.2, 0.2), B, B))
    events = find_events(answers, predictor, MergeRules())
    assert [(e.start_s, e.end_s, e.label) for e in events] == [(0.0, 1.25, "a"), (1.25, 2.5, "b")]
    assert events[0].probability == pytest.approx(0.7)


def test_what_no_class_is_sure_of_and_background_are_no_events(predictor):
    answers = served((0.0, 0.5, 1.0, 1.5), (NEITHER, A, NOISE, NOISE))
    rules = MergeRules(background=("noise",))
    (event,) = find_events(answers, predictor, rules)
    assert (event.start_s, event.end_s, event.label) == (0.75, 1.25, "a")
    assert find_events(answers, predictor, MergeRules(threshold=0.95)) == ()


def test_windows_that_do_not_touch_are_events_of_their_own(predictor):
    events = find_events(served((0.0, 3.0), (A, A)), predictor, MergeRules())
    assert [(e.start_s, e.end_s) for e in events] == [(0.0, 1.0), (3.0, 4.0)]


def test_one_segment_has_neither_windows_nor_events(predictor):
    alone = served((0.0,), (A,))
    assert list_windows(alone, predictor) == find_events(alone, predictor, MergeRules()) == ()


def test_windows_lie_where_the_segments_do(predictor):
    first, last = list_windows(served((0.0, 0.37), (A, B)), predictor)
    assert (first.start_s, first.end_s, first.label) == (0.0, 1.0, "a")
    assert (last.start_s, last.end_s, last.label) == (0.37, 1.37, "b")
