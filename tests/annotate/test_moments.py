"""A dear expert is woken once a moment, around it, and what it says stands for who asked."""

import numpy as np
import pytest
import torch

from tests.fixtures.closed_runs import closed_config, write_backbone_run
from tests.fixtures.runs import RATE_HZ
from xmoe.annotate import moments
from xmoe.annotate.moments import (
    Wake,
    answer_moments,
    count_cheap,
    cut_around,
    share_moments,
)
from xmoe.audio.segment import Grid
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor

CHANCE = 0.35
GRID = Grid.of(RATE_HZ, segment_s=0.4, hop_s=0.1)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor.load(write_backbone_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture
def segments():
    rng = np.random.default_rng(3)
    samples = 0.01 * rng.standard_normal(2 * RATE_HZ)
    samples[8000:9600] += 0.2 * rng.standard_normal(1600)
    return GRID.cut(samples.astype(np.float32))


def wake(predictor, segments, chance):
    specs, background = predictor.measure(segments), predictor.config.classes[:1]
    return answer_moments(predictor, segments, specs, Wake(chance, background))


def test_the_best_of_neighbours_answers_them_all():
    places, worth = np.array([0, 50, 100, 105, 500]), np.array([0.1, 0.3, 0.2, -1.0, 0.0])
    assert share_moments(places, worth, 60).tolist() == [1, 1, 1, -1, 4]
    assert share_moments(places, worth, 40).tolist() == [0, 1, 2, -1, 4]
    assert share_moments(places, worth - 1.0, 60).tolist() == [-1] * 5


def test_a_segment_is_cut_out_of_its_neighbours_and_lies_within_them():
    samples = np.arange(1, 10_001, dtype=np.float32)
    segments = GRID.cut(samples)[2:6]
    middle = cut_around(segments, 4567)
    assert (middle.start, middle.end) == (2967, 6167)
    np.testing.assert_array_equal(middle.samples, samples[2967:6167])
    assert cut_around(segments, 0).start == segments[0].start
    assert cut_around(segments, 99_999).end == segments[-1].end


def test_the_chance_of_an_event_is_that_of_all_classes_but_the_background(predictor):
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.0, 9.0]])[:, : len(predictor.config.classes)]
    answers = SegmentAnswers(logits, *[torch.zeros(2)] * 4)
    p = torch.softmax(logits.double(), 1)
    of = Wake(0.5, predictor.config.classes[:1]).of(predictor, answers)
    torch.testing.assert_close(of, 1.0 - p[:, 0])


def test_nobody_is_asked_where_no_event_is_likely(predictor, segments):
    said = wake(predictor, segments, 1.0)
    sound, specs = predictor.sound_of(segments), predictor.measure(segments)
    alone = predictor.answer_segments(specs, sound, k=0)
    torch.testing.assert_close(said.answers.logits, alone.logits)
    assert said.around.tolist() == [-1] * len(segments)


def test_a_moment_is_heard_once_and_answers_all_that_share_it(predictor, segments, monkeypatch):
    heard, third = [], predictor.experts["third"]

    def listen(request):
        heard.extend(request.rows.tolist())
        return third(request)

    monkeypatch.setitem(predictor.experts, "third", listen)
    said = wake(predictor, segments, CHANCE)
    asked = said.answers.k == 3
    assert 0 < len(heard) < int(asked.sum())
    assert np.array_equal(said.around >= 0, asked.numpy())
    assert len(set(said.around[said.around >= 0].tolist())) == len(heard)
    for row in np.flatnonzero(asked.numpy())[::3]:
        around = [cut_around(segments, int(said.around[row]) + GRID.length // 2)]
        alone = predictor.answer_segments(
            predictor.measure(around), predictor.sound_of(around), k=3
        )
        torch.testing.assert_close(said.answers.logits[row], alone.logits[0], rtol=1e-4, atol=1e-4)


def test_where_a_moment_lies_is_looked_at_again_around_it(predictor, segments, monkeypatch):
    places_s = iter([0.35, 0.25])

    def find(plan, _):
        return np.full(len(plan.stem_logits), next(places_s))

    monkeypatch.setattr(moments, "find_moments", find)
    side_by_side = segments[:: GRID.length // GRID.hop]
    said = wake(predictor, side_by_side, CHANCE)
    # 0.35 s into its segment, and then 0.05 s after the middle of the one around that.
    moved = round(0.20 * RATE_HZ)
    last = side_by_side[-1].start
    owned = said.around[said.around >= 0]
    assert len(owned)
    assert set(owned) <= {min(one.start + moved, last) for one in side_by_side}


def test_only_promises_of_a_network_have_moments(predictor):
    model = predictor.config.model
    assert count_cheap(model) == 2
    assert count_cheap(model.model_copy(update={"k_max": 2})) is None
    assert count_cheap(model.model_copy(update={"router": "gate"})) is None
    assert count_cheap(closed_config().model) is None
