"""What is sent, and to whom: an expert that is not there is an absent key."""

import pytest
import torch

from tests.fixtures.mixtures import NAMES, cnn_specs
from xmoe.experts.protocol import ExpertRequest
from xmoe.mixture.calls import (
    CallFailed,
    call_experts,
    make_requests,
    merge_replies,
    quantise,
)

SPECS = cnn_specs(*NAMES)
WEIGHTS = [[0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


def request(name, *rows):
    return ExpertRequest(name, torch.tensor(rows), {"x": torch.tensor(rows).float()})


def double(asked):
    return 2 * asked.payload["x"].unsqueeze(1)


def test_replies_keep_the_rows_of_their_requests():
    replies = call_experts({"low": double, "high": double}, [request("low", 0, 2)])
    assert list(replies) == ["low"]
    assert replies["low"].rows.tolist() == [0, 2]
    assert replies["low"].logits.tolist() == [[0.0], [4.0]]


def test_a_missing_expert_is_an_absent_key():
    replies = call_experts({"low": double}, [request("low", 1), request("high", 1)])
    assert list(replies) == ["low"]


def test_a_failed_call_says_of_which_kind():
    assert CallFailed("dead").kind == "dead"
    assert str(CallFailed("overloaded")) == "overloaded"


def test_replies_of_two_rounds_are_those_of_both():
    experts = {"low": double, "high": double}
    one = call_experts(experts, [request("low", 0)])
    merged = merge_replies(one, call_experts(experts, [request("low", 2), request("high", 1)]))
    assert list(merged) == ["low", "high"]
    assert merged["low"].rows.tolist() == [0, 2]
    assert merged["low"].logits.tolist() == [[0.0], [4.0]]
    assert list(one) == ["low"]


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


@pytest.fixture
def requests(make_plan, make_inputs):
    """Return the function that makes requests by name, with their plan and inputs."""

    def make(**options):
        plan, inputs = make_plan(WEIGHTS, **options), make_inputs(3)
        named = {request.name: request for request in make_requests(plan, inputs, SPECS)}
        return named, plan, inputs

    return make


def test_a_request_holds_only_the_clips_the_rows_and_the_windows_chosen(requests):
    named, plan, inputs = requests()
    request = named["low"]
    levels, scale = request.payload["levels"], request.payload["scale"]
    assert request.rows.tolist() == [0, 2]
    assert levels.shape == (2, 8, 4, 4)
    assert levels.dtype == torch.uint8
    assert request.size == 2 * 8 * 4 * 4 + 2
    assert torch.equal(scale, inputs.scale[[0, 2]])
    for position, row in enumerate([0, 2]):
        columns = [
            min(10, 2 * int(window) + offset)
            for window in plan.windows[row, 1]
            for offset in range(2)
        ]
        assert torch.equal(levels[position], inputs.stem_map[row, :, :4][:, :, columns])


def test_experts_that_nobody_chose_are_sent_nothing(requests):
    assert list(requests()[0]) == ["broadband", "low"]


def test_all_windows_are_the_whole_map_without_filling(requests):
    named, _, inputs = requests(keep=6)
    assert torch.equal(named["low"].payload["levels"], inputs.stem_map[[0, 2], :, :4])


def test_a_request_of_every_clip_copies_no_clip(make_plan, make_inputs):
    inputs = make_inputs(2)
    plan = make_plan([[1.0, 0.0, 0.0, 0.0]] * 2, keep=6)
    (request,) = make_requests(plan, inputs, SPECS)
    assert request.payload["levels"].data_ptr() == inputs.stem_map.data_ptr()
