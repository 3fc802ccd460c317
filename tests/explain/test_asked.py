"""What each voice brings is what the mixture itself says alone, and without it."""

import numpy as np
import pytest
import torch

from xmoe.explain.asked import ask_each, look_again
from xmoe.mixture.calls import call_experts
from xmoe.mixture.rounds import answer_plan


@pytest.fixture
def asked(closed, heard):
    """Return the function that asks ``k`` experts: plan, inputs, replies, voices."""
    spec, sound = heard

    def ask(k):
        plan, inputs = closed.model.prepare(spec[None], closed.routing, sound=sound, k=k)
        replies = call_experts(closed.model.callers(), closed.model.requests(plan, inputs))
        return plan, inputs, replies, ask_each(closed, plan, replies)

    return ask


def test_voices_stand_in_their_order_and_count_to_one(asked):
    voices = asked(2)[3]
    assert [voice.name for voice in voices] == ["stem", "first", "second"]
    assert sum(voice.counts for voice in voices) == pytest.approx(1.0)
    assert [voice.cost_ms for voice in voices] == [0.5, 1.0, 2.0]
    assert all(voice.alone.sum() == pytest.approx(1.0) for voice in voices)


def test_without_an_expert_is_the_answer_where_it_is_dead(closed, asked):
    plan, inputs, _, voices = asked(2)
    callers = closed.model.callers()
    del callers["second"]
    combined = answer_plan(closed.model, plan, inputs, closed.routing, callers=callers)[1]
    expected = closed.calibrate(combined)[0].numpy()
    assert voices[2].without == pytest.approx(expected, abs=1e-6)


def test_the_stem_alone_is_the_answer_without_experts(closed, asked, heard):
    none, inputs, _, alone = asked(0)
    assert [voice.name for voice in alone] == ["stem"]
    assert alone[0].without is None
    assert alone[0].counts == pytest.approx(1.0)
    voices = asked(2)[3]
    expected = closed.carry_out(none, inputs)[0].numpy()
    assert voices[0].alone == pytest.approx(expected, abs=1e-6)
    assert voices[0].alone == pytest.approx(alone[0].alone)


def test_the_second_rounds_promises_are_those_that_decide(closed, asked, heard):
    plan, inputs, replies, _ = asked(1)
    again = look_again(closed.model.router, plan, replies)
    assert again.shape == (4,)
    assert float(again[0]) == 0.0
    costs = np.array([0.0, 1.0, 3.0, 7.0])
    worth = again.numpy() - 0.01 * costs
    final = answer_plan(closed.model, plan, inputs, closed.routing)[0]
    assert int(final.k[0]) == 1 + int(worth[1:].argmax())


@pytest.mark.parametrize("k", [0, 3])
def test_there_is_no_second_look_where_none_or_all_were_asked(closed, asked, k):
    plan, _, replies, _ = asked(k)
    assert look_again(closed.model.router, plan, replies) is None


def test_an_expert_that_is_missing_leaves_no_second_look(closed, asked):
    plan, _, replies, _ = asked(2)
    del replies["first"]
    assert look_again(closed.model.router, plan, replies) is None
    assert torch.isfinite(closed.read(plan, replies)).all()
