"""The plan as a value: who is chosen, where they look, and what it says in words."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmoe.glance.router import STEM_SHARE
from xmoe.mixture.plan import choose_experts, drop_rows, prefer_by_gate, spans_of

WEIGHTS = [[0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]

gates = st.lists(
    st.sampled_from([-math.inf, math.nan, -2.0, -1.0, 0.0, 0.5, 3.0]), min_size=5, max_size=5
)


@given(gate=gates, k=st.integers(0, 7))
@settings(deadline=None, max_examples=80)
def test_chosen_experts_equal_a_slow_sort(gate, k):
    weights = choose_experts(torch.tensor([gate]), torch.tensor([k]))[0].tolist()
    usable = [e for e in range(5) if math.isfinite(gate[e])]
    best = sorted(usable, key=lambda e: (-gate[e], e))[:k]
    total = sum(math.exp(gate[e]) for e in best)
    expected = [math.exp(gate[e]) / total if e in best else 0.0 for e in range(5)]
    assert weights == pytest.approx(expected, abs=1e-6)


def test_each_clip_has_its_own_count():
    gate = torch.tensor([[3.0, 2.0, 1.0]]).expand(3, -1)
    weights = choose_experts(gate, torch.tensor([0, 1, 2]))
    assert (weights > 0).sum(1).tolist() == [0, 1, 2]
    assert weights.sum(1).tolist() == pytest.approx([0.0, 1.0, 1.0])
    assert weights[1].tolist() == [1.0, 0.0, 0.0]


def test_k_counts_the_chosen_experts_and_p_the_windows(make_plan):
    plan = make_plan(WEIGHTS)
    assert plan.k.tolist() == [2, 0, 1]
    assert plan.num_windows == 6


def test_windows_become_spans_between_the_edges_of_the_grid():
    spans = spans_of(torch.tensor([[0, 2]]), (0.0, 0.5, 1.0, 1.25))
    assert spans.tolist() == [[[0.0, 0.5], [1.0, 1.25]]]


@pytest.mark.parametrize("keep", [1, 2, 6])
def test_spans_name_their_windows(make_plan, keep):
    plan = make_plan(WEIGHTS, keep=keep)
    assert plan.windows.shape == (3, 4, keep)
    best = plan.window_scores.topk(keep, dim=2).indices.sort(dim=2).values
    assert torch.equal(plan.windows, best)
    assert torch.equal(plan.with_windows(5 - best.flip(2)).windows, 5 - best.flip(2))


def test_windows_of_hours_in_32_bits_are_still_told_apart(make_plan):
    edges_s = tuple(0.125 * index for index in range(30_000))
    windows = torch.tensor([[[0, 1, 29_997, 29_998]]])
    plan = make_plan([[1.0, 0.0, 0.0, 0.0]])
    long = type(plan)(**vars(plan) | {"window_edges_s": edges_s})
    assert torch.equal(long.with_windows(windows).windows, windows)


def test_counts_give_the_weights_of_so_many_experts(make_plan):
    plan, k = make_plan(WEIGHTS), torch.tensor([0, 1, 2])
    asked = plan.with_counts(k)
    assert asked.k.tolist() == [0, 1, 2]
    torch.testing.assert_close(asked.weights, choose_experts(plan.gate.log(), k))


def test_who_answered_is_not_asked_again(make_plan):
    plan = make_plan(WEIGHTS)
    heard = torch.zeros_like(plan.weights, dtype=torch.bool)
    heard[:, 1] = True
    left = drop_rows(plan, heard)
    assert not left.weights[:, 1].any()
    assert torch.equal(left.weights[:, [0, 2, 3]], plan.weights[:, [0, 2, 3]])
    assert not drop_rows(plan, plan.weights > 0).weights.any()


def test_a_gate_prefers_alike_for_any_number_and_the_stem_keeps_its_share():
    gate = torch.tensor([[0.1, 0.7, float("-inf")]])
    preference = prefer_by_gate(gate, 2)
    assert preference.choose(torch.tensor([1])).tolist() == [[0.0, 1.0, 0.0]]
    torch.testing.assert_close(preference.choose(torch.tensor([3])), torch.softmax(gate, 1))
    assert preference.stem_shares.tolist()[0] == pytest.approx([1.0, STEM_SHARE, STEM_SHARE])
    gone = preference.without(torch.tensor([False, True, False]))
    assert gone.choose(torch.tensor([1])).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("keep", [1, 2, 6])
def test_the_share_of_saliency_is_that_of_the_windows_that_are_sent(make_plan, keep):
    plan = make_plan(WEIGHTS, keep=keep)
    best = plan.window_scores.topk(keep, dim=2).values.sum((1, 2))
    expected = best / plan.window_scores.sum((1, 2))
    torch.testing.assert_close(plan.saliency_share, expected)
    twice = plan.with_windows(plan.windows.repeat(1, 1, 2))  # a window sent twice counts once
    torch.testing.assert_close(twice.saliency_share, expected)


def test_where_no_window_scores_nothing_is_left_out(make_plan):
    plan = make_plan(WEIGHTS, keep=1)
    silent = dataclasses.replace(plan, window_scores=torch.zeros_like(plan.window_scores))
    assert silent.saliency_share.tolist() == [1.0] * 3
