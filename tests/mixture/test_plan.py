"""The plan as a value: who is chosen and what is sent."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmoe.mixture.plan import choose_experts, quantise

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


@pytest.mark.parametrize("seed", range(5))
def test_quantisation_errs_by_half_a_step_at_most(seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(3, 4, 5, 6, generator=generator) * torch.tensor([1e-3, 1.0, 1e3]).view(
        3, 1, 1, 1
    )
    levels, scale = quantise(features)
    assert levels.dtype == torch.uint8
    assert scale.shape == (3,)
    assert levels.amax((1, 2, 3)).tolist() == [255, 255, 255]
    back = levels.float() * scale.view(3, 1, 1, 1)
    error = (back - features).abs().amax((1, 2, 3))
    assert (error <= scale / 2 * (1 + 1e-4)).all()


def test_an_empty_map_quantises_to_zero():
    levels, scale = quantise(torch.zeros(2, 4, 5, 6))
    assert int(levels.max()) == 0
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_k_counts_the_chosen_experts_and_p_the_windows(make_plan):
    plan = make_plan(WEIGHTS)
    assert plan.k.tolist() == [2, 0, 1]
    assert plan.num_windows == 6


def test_a_request_holds_only_the_clips_the_rows_and_the_windows_chosen(make_plan):
    plan = make_plan(WEIGHTS)
    _, request = plan.requests()
    assert request.name == "low"
    assert request.rows.tolist() == [0, 2]
    assert request.windows.shape == (2, 8, 4, 4)
    assert request.windows.dtype == torch.uint8
    for position, row in enumerate([0, 2]):
        columns = [
            min(10, 2 * int(window) + offset)
            for window in plan.windows[row, 1]
            for offset in range(2)
        ]
        assert torch.equal(request.windows[position], plan.quantised[row, :, :4][:, :, columns])
        sent = request.dequantise()[position]
        torch.testing.assert_close(sent, request.windows[position].float() * plan.scale[row])


def test_experts_that_nobody_chose_are_sent_nothing(make_plan):
    plan = make_plan(WEIGHTS)
    assert [request.name for request in plan.requests()] == ["broadband", "low"]


def test_all_windows_are_the_whole_map_without_filling(make_plan):
    plan = make_plan(WEIGHTS, keep=6)
    _, request = plan.requests()
    assert torch.equal(request.windows, plan.quantised[[0, 2], :, :4])


def test_a_plan_reads_as_words(make_plan):
    plan = make_plan(WEIGHTS)
    windows = plan.windows.clone()
    windows[0, 1] = torch.tensor([2, 3])
    windows[0, 0] = torch.tensor([0, 5])
    told = dataclasses.replace(plan, windows=windows).describe(0)
    assert told.splitlines() == [
        "K = 2, 2 of 6 windows each",
        "  low: weight 0.75, windows 2-3",
        "  broadband: weight 0.25, windows 0, 5",
    ]
    assert str(plan).splitlines()[3] == "clip 1: K = 0: the stem answers"
