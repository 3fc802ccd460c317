"""Combining: blends against loops, and any subset of replies gives the answer of that subset."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmoe.experts.protocol import ExpertReply
from xmoe.mixture.combine import STEM_SHARE, blend, combine, mark_missing, stack_replies
from xmoe.mixture.plan import Plan, choose_experts

WEIGHTS = [[0.2, 0.3, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


def reply_all(plan: Plan, seed: int = 3) -> dict[str, ExpertReply]:
    generator = torch.Generator().manual_seed(seed)
    rows_of = (torch.nonzero(column).squeeze(1) for column in (plan.weights > 0).T)
    asked = {n: rows for n, rows in zip(plan.expert_names, rows_of, strict=True) if len(rows)}
    return {
        name: ExpertReply(rows, torch.randn(len(rows), 3, generator=generator))
        for name, rows in asked.items()
    }


def test_blend_equals_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    stem, experts = (torch.randn(s, generator=generator) for s in [(2, 3), (4, 2, 3)])
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0]])
    mixed = blend(stem, experts, weights)
    for clip in range(2):
        for label in range(3):
            told = sum(float(weights[clip, e]) * float(experts[e, clip, label]) for e in range(4))
            expected = STEM_SHARE * float(stem[clip, label]) + (1 - STEM_SHARE) * told
            assert float(mixed[clip, label]) == pytest.approx(expected, abs=1e-6)


def test_a_share_of_its_own_is_what_the_stem_counts():
    stem, experts = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[[8.0, 6.0], [4.0, 2.0]]])
    mixed = blend(stem, experts, torch.ones(2, 1), torch.tensor([0.25, 1.0]))
    assert mixed.tolist() == [[6.25, 5.0], [3.0, 4.0]]


def test_without_weights_the_stem_is_the_answer():
    stem = torch.tensor([[1.5, -2.0]])
    assert torch.equal(blend(stem, torch.full((2, 1, 2), 9.0), torch.zeros(1, 2)), stem)


def test_all_replies_give_the_plan_its_weights_whole(make_plan):
    plan = make_plan(WEIGHTS)
    replies = reply_all(plan)
    combined = combine(plan, replies)
    torch.testing.assert_close(combined.weights, plan.weights)
    assert not combined.missing.any()
    assert combined.degraded.tolist() == [False, False, False]
    torch.testing.assert_close(combined.gate_mass, torch.ones(3))
    expected = plan.stem_logits[2] / 3 + 2 / 3 * replies["low"].logits[1]
    torch.testing.assert_close(combined.logits[2], expected)
    assert torch.equal(combined.logits[1], plan.stem_logits[1])


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_dropping_a_reply_is_planning_without_that_expert(make_plan, dropped):
    gate = torch.tensor([[1.0, 0.5, -0.3, -math.inf], [0.2, 0.1, 2.0, -math.inf]])
    count = torch.tensor([3, 3])
    plan = dataclasses.replace(
        make_plan([[0.0] * 4, [0.0] * 4]), weights=choose_experts(gate, count)
    )
    replies = reply_all(plan)
    name = plan.expert_names[dropped]
    del replies[name]
    gate[:, dropped] = -math.inf
    planned = dataclasses.replace(plan, weights=choose_experts(gate, count))
    degraded, without = combine(plan, replies), combine(planned, replies)
    torch.testing.assert_close(degraded.logits, without.logits)
    torch.testing.assert_close(degraded.weights, without.weights)
    assert degraded.missing.nonzero().tolist() == [[0, dropped], [1, dropped]]
    torch.testing.assert_close(degraded.gate_mass, 1 - plan.weights[:, dropped])
    assert not without.degraded.any()


def test_with_no_reply_left_the_stem_answers(make_plan):
    plan = make_plan(WEIGHTS)
    combined = combine(plan, {})
    assert torch.equal(combined.logits, plan.stem_logits)
    assert combined.gate_mass.tolist() == [0.0, 1.0, 0.0]
    assert combined.degraded.tolist() == [True, False, True]
    assert torch.equal(combined.missing, plan.weights > 0)
    assert float(combined.weights.abs().sum()) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reply_that_is_not_finite_counts_as_missing_for_that_clip(make_plan, bad):
    plan = make_plan(WEIGHTS)
    replies = reply_all(plan)
    replies["low"].logits[0, 1] = bad
    combined = combine(plan, replies)
    assert combined.missing.nonzero().tolist() == [[0, 1]]
    assert combined.weights[0].tolist() == pytest.approx([2 / 7, 0, 5 / 7, 0])
    assert combined.weights[2].tolist() == [0, 1, 0, 0]
    assert torch.isfinite(combined.logits).all()


def test_replies_nobody_asked_for_change_nothing(make_plan):
    plan = make_plan(WEIGHTS)
    replies = reply_all(plan)
    stray = {
        "high_band": ExpertReply(torch.arange(3), torch.full((3, 3), 50.0)),
        "stranger": ExpertReply(torch.arange(3), torch.full((3, 3), 50.0)),
    }
    assert torch.equal(combine(plan, replies | stray).logits, combine(plan, replies).logits)


def test_the_order_of_replies_does_not_matter(make_plan):
    plan = make_plan(WEIGHTS)
    replies = reply_all(plan)
    turned = dict(reversed(replies.items()))
    assert torch.equal(combine(plan, turned).logits, combine(plan, replies).logits)


def test_half_precision_replies_are_heard(make_plan):
    plan = make_plan(WEIGHTS)
    halves = {n: ExpertReply(r.rows, r.logits.bfloat16()) for n, r in reply_all(plan).items()}
    combined = combine(plan, halves)
    assert combined.logits.dtype == torch.float32
    torch.testing.assert_close(
        combined.logits, combine(plan, reply_all(plan)).logits, atol=2e-2, rtol=0
    )


@given(small=st.floats(1e-30, 1.0), answered=st.sets(st.integers(0, 2)))
@settings(deadline=None, max_examples=60)
def test_weights_of_any_subset_sum_to_one_however_small(make_plan, small, answered):
    plan = make_plan([[1.0 - small, small / 2, small / 2, 0.0]])
    names = {plan.expert_names[index] for index in answered}
    replies = {name: reply for name, reply in reply_all(plan).items() if name in names}
    combined = combine(plan, replies)
    heard = any(float(plan.weights[0, index]) > 0 for index in answered)
    assert float(combined.weights.sum()) == pytest.approx(1.0 if heard else 0.0, abs=1e-5)
    lowest, highest = plan.stem_logits.clone(), plan.stem_logits.clone()
    for reply in replies.values():
        lowest, highest = lowest.minimum(reply.logits), highest.maximum(reply.logits)
    assert (combined.logits >= lowest - 1e-5).all()
    assert (combined.logits <= highest + 1e-5).all()


def test_replies_lie_at_their_expert_and_clip_and_all_else_is_nothing(make_plan):
    replies = {
        "low": ExpertReply(torch.tensor([2, 0]), torch.tensor([[1.0, 2, 3], [math.nan, 5, 6]])),
        "transient": ExpertReply(torch.tensor([1]), torch.tensor([[7.0, 8, 9]])),
    }
    logits, answered = stack_replies(make_plan(WEIGHTS), replies)
    expected = torch.zeros(4, 3, 3)
    expected[1, 2] = torch.tensor([1.0, 2, 3])
    expected[2, 1] = torch.tensor([7.0, 8, 9])
    assert torch.equal(logits, expected)
    assert answered.nonzero().tolist() == [[1, 2], [2, 1]]


def test_replies_are_stacked_on_the_device_of_the_plan(make_plan):
    plan = make_plan(WEIGHTS)
    plan = dataclasses.replace(plan, stem_logits=plan.stem_logits.to("meta"))
    assert {made.device.type for made in stack_replies(plan, {})} == {"meta"}


def test_the_stem_counts_what_it_does_beside_so_many_answers(make_plan):
    plan = dataclasses.replace(
        make_plan([[0.5, 0.5, 0.0, 0.0]] * 3),
        stem_shares=torch.tensor([[1.0, 0.5, 0.25]] * 3),
    )
    replies = {
        "broadband": ExpertReply(torch.tensor([0, 1]), torch.full((2, 3), 8.0)),
        "low": ExpertReply(torch.tensor([0]), torch.full((1, 3), 8.0)),
    }
    shares = (8.0 - combine(plan, replies).logits) / (8.0 - plan.stem_logits)
    torch.testing.assert_close(shares, torch.tensor([[0.25], [0.5], [1.0]]).expand(3, 3))


def test_whoever_was_wanted_and_did_not_answer_is_missing(make_plan):
    plan = make_plan(WEIGHTS)
    replies = reply_all(plan)
    del replies["transient"]
    wanted = torch.tensor([[True, True, False, True]] * 3)
    marked = mark_missing(wanted, combine(plan, replies))
    assert marked.missing.nonzero().tolist() == [[0, 3], [1, 0], [1, 1], [1, 3], [2, 0], [2, 3]]
