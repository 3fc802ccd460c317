"""What is explained over HTTP: the segment that is asked for, and the plan that answers it."""

import pytest
import torch

from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.serve.http.explainer import pick_segment, plan_within
from xmoe.serve.router.limits import Limits

SAMPLES = make_sound(1.3, seed=1)


@pytest.mark.parametrize("at_s", [0.2, 99.0, None])
def test_a_segment_comes_with_its_sound(closed_in_process, at_s):
    segment, spec, sound = pick_segment(closed_in_process, SAMPLES, RATE_HZ, at_s)
    heard, rate_hz = sound.read(0)
    assert rate_hz == RATE_HZ
    assert len(sound) == 1
    assert heard == pytest.approx(segment.samples, abs=1e-4)
    assert torch.equal(spec, closed_in_process.measure([segment])[0])


def test_who_reads_the_map_needs_no_sound(in_process):
    assert pick_segment(in_process, SAMPLES, RATE_HZ, None)[2] is None


@pytest.mark.parametrize("limits", [Limits(), Limits(k_max=1), Limits(budget="accuracy")])
def test_the_plan_is_that_of_the_answer(closed_in_process, limits):
    asked = []
    for start_s in (0.0, 0.2, 0.4, 0.6):
        _, spec, sound = pick_segment(closed_in_process, SAMPLES, RATE_HZ, start_s)
        plan = plan_within(closed_in_process, spec, sound, limits)
        answers = closed_in_process.answer_segments(spec[None], sound, k_max=limits.k_max)
        assert plan.k.tolist() == answers.k.tolist()
        assert torch.allclose(plan.weights, answers.weights, atol=1e-6)
        asked += plan.k.tolist()
    assert max(asked) == (1 if limits.k_max == 1 else 3)
