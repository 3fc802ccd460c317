"""Logits and weights -> one answer, whoever is missing."""

import pytest

from xmoe.routing.stack import Stack

STACK = Stack(weights={"a": 0.6, "b": 0.3, "idle": 0.0})


@pytest.fixture
def logits(rng):
    return {name: rng.normal(size=(4, 3)) for name in ("a", "b", "idle")}


def test_all_together_are_the_weighted_sum(logits):
    assert STACK.combine(logits) == pytest.approx(0.6 * logits["a"] + 0.3 * logits["b"])


def test_the_weight_of_the_missing_goes_to_those_who_answered(logits):
    alone = STACK.combine({"b": logits["b"]})
    assert alone == pytest.approx(0.9 * logits["b"])


def test_where_nobody_answers_nothing_is_said():
    assert STACK.combine({}).tolist() == [[0.0]]


def test_an_expert_without_weight_answers_where_nobody_else_does(logits):
    assert STACK.combine({"idle": logits["idle"]}) == pytest.approx(0.9 * logits["idle"])


def test_answers_of_strangers_do_not_count(logits):
    known = {"a": logits["a"], "b": logits["b"]}
    assert STACK.combine(known | {"new": logits["idle"]}) == pytest.approx(STACK.combine(known))


def test_a_stack_goes_through_json(logits):
    again = Stack.model_validate_json(STACK.model_dump_json())
    assert again.combine(logits) == pytest.approx(STACK.combine(logits))
