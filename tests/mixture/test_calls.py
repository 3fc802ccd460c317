"""The seam: each request goes to its expert, and an expert that is not there is an absent key."""

import torch

from xmoe.experts.protocol import ExpertRequest
from xmoe.mixture.calls import CallFailed, call_experts, merge_replies


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
