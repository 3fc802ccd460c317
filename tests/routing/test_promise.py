"""Evidence -> promise -> how many: what an answer tells, and where the promise stops paying."""

import numpy as np
import pytest
import torch

from xmoe.base.task import task_of
from xmoe.routing.promise import ANSWER_NUMBERS, Promise, Promises, describe_answer

ONE, MANY = task_of("single_label"), task_of("multi_label")


def make_promises(*, first_most=2):
    """Return promises .5, .8, .9 of no evidence, and surer ones where it is positive."""
    odds = [float(np.log(p / (1 - p))) for p in (0.5, 0.8, 0.9)]
    depths = tuple(
        Promise(
            mean=(0.0,),
            scale=(1.0,),
            weights=tuple((4.0,) if k == depth else (0.0,) for k in range(depth, 3)),
            bias=tuple(odds[depth:]),
        )
        for depth in range(3)
    )
    return Promises(
        order=("cheap", "dear"), costs_ms=(1.0, 20.0), depths=depths, first_most=first_most
    )


def test_promises_are_probabilities_of_evidence():
    promised = make_promises().depths[0].promise(np.array([[0.0], [2.0]]))
    assert promised[0] == pytest.approx([0.5, 0.8, 0.9])
    assert promised[1, 0] > 0.99


@pytest.mark.parametrize(("price", "expected"), [(0.0, 2), (0.01, 1), (1.0, 0)])
def test_dearer_milliseconds_buy_fewer_experts(price, expected):
    assert make_promises().choose(0, np.zeros((1, 1)), price=price).tolist() == [expected]


def test_who_is_sure_already_asks_nobody():
    assert make_promises().choose(0, np.array([[3.0]]), price=0.001).tolist() == [0]


def test_the_first_round_asks_no_more_than_it_may():
    promises = make_promises(first_most=1)
    assert promises.choose(0, np.zeros((1, 1)), price=0.0).tolist() == [1]
    assert promises.choose(1, np.zeros((1, 1)), price=0.0).tolist() == [2]


def test_what_was_asked_is_not_taken_back():
    assert make_promises().choose(1, np.zeros((3, 1)), price=5.0).tolist() == [1, 1, 1]


def test_evidence_far_out_says_no_more_than_its_limit():
    promises = make_promises().depths[0]
    assert (promises.promise(np.array([[5.0]])) == promises.promise(np.array([[1e6]]))).all()


def test_costs_add_up():
    assert make_promises().costs.tolist() == [0.0, 1.0, 21.0]


@pytest.mark.parametrize("task", [ONE, MANY])
@pytest.mark.parametrize("classes", [2, 7])
def test_an_answer_is_described_by_eight_numbers(task, classes, rng):
    logits = torch.log_softmax(torch.from_numpy(rng.normal(size=(5, classes))), 1)
    numbers = describe_answer(torch.stack([logits, logits]), logits, task)
    assert numbers.shape == (5, ANSWER_NUMBERS)
    assert torch.isfinite(numbers).all()
    assert numbers[:, 5].tolist() == pytest.approx([1.0] * 5)
    assert numbers[:, 7].tolist() == pytest.approx([0.0] * 5)


def test_sure_answers_have_margin_and_no_entropy():
    beliefs = torch.tensor([[0.98, 0.01, 0.01], [0.34, 0.33, 0.33]])
    one, other = describe_answer(beliefs.log()[None], beliefs.log(), ONE)
    assert one[3] > 0.9 > other[3]
    assert one[4] < 0.2 < 0.9 < other[4]


def test_experts_that_disagree_show():
    both = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]]).log()
    numbers = describe_answer(both, both.sum(0), ONE)[0].tolist()
    assert numbers[5] == 0.5
    assert numbers[6] == pytest.approx(0.55)
    assert numbers[7] == pytest.approx(0.35)


def test_promises_go_through_json():
    promises = make_promises()
    again = Promises.model_validate_json(promises.model_dump_json())
    assert again == promises
