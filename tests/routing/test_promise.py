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
    for limit in (5.0, -5.0):
        edge, beyond = (promises.promise(np.array([[x]])) for x in (limit, 1e6 * limit))
        inside = promises.promise(np.array([[0.9 * limit]]))
        assert (edge == beyond).all()
        assert edge[0, 0] != inside[0, 0]


def test_evidence_counts_in_deviations_from_its_mean():
    known = Promise(
        mean=(1.0, -2.0), scale=(2.0, 0.5), weights=((0.5, 0.25), (-1.0, 0.0)), bias=(0.1, 0.2)
    )
    odds = [0.5 * 1.5 + 0.25 * 2.0 + 0.1, -1.5 + 0.2]
    expected = [1.0 / (1.0 + np.exp(-x)) for x in odds]
    assert known.promise(np.array([[4.0, -1.0]]))[0] == pytest.approx(expected)


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


def probabilities(logits, task):
    """Weights of the classes that sum to one, of logits [C]."""
    weights = np.exp(logits) if task is ONE else 1 / (1 + np.exp(-logits))
    return weights / weights.sum()


@pytest.mark.parametrize("task", [ONE, MANY])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_eight_numbers_are_those_of_a_slow_loop(task, classes, rng):
    experts = torch.from_numpy(rng.normal(size=(3, 4, classes)))
    mixed = torch.from_numpy(rng.normal(size=(4, classes)))
    found = describe_answer(experts, mixed, task)
    for clip in range(4):
        belief = probabilities(mixed[clip].numpy(), task)
        own = [probabilities(one[clip].numpy(), task) for one in experts]
        top = np.sort(np.append(belief, [1e-4] * 3))[::-1][:3].clip(1e-4, 1 - 1e-4)
        given = [one[belief.argmax()] for one in own]
        expected = [
            *np.log(top / (1 - top)),
            np.ptp(np.sort(belief)[-2:]),
            -(belief * np.log(belief)).sum() / np.log(classes),
            np.mean([one.argmax() == belief.argmax() for one in own]),
            np.mean(given),
            np.std(given),
        ]
        assert found[clip].tolist() == pytest.approx(expected, abs=1e-7)


def test_certain_answers_are_described_by_finite_numbers():
    certain = torch.tensor([[0.0, -1e4]], requires_grad=True)
    numbers = describe_answer(certain[None], certain, ONE)
    odds = float(np.log(1e4 - 1))
    expected = [odds, -odds, -odds, 1.0, 0.0, 1.0, 1.0, 0.0]
    assert numbers[0].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-6)
    numbers.sum().backward()
    assert torch.isfinite(certain.grad).all()
