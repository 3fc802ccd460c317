"""What labels mean: numbers by hand, slow oracles class by class, and answers without a label."""

import math

import numpy as np
import pytest
import torch

from xmoe.base.task import TASKS, MultiLabel, SingleLabel, task_of

ONE, MANY = SingleLabel(), MultiLabel()
HUGE = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]]
both = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_a_task_has_the_name_that_configs_write():
    assert (task_of("single_label"), task_of("multi_label")) == tuple(TASKS.values())
    assert [task_of(name).exclusive for name in TASKS] == [True, False]
    with pytest.raises(ValueError, match="'both' is neither single_label nor multi_label"):
        task_of("both")


def test_rows_of_one_label_are_one_hot():
    assert ONE.rows(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ONE.rows(np.array([], np.int64), 3).shape == (0, 3)


def test_rows_of_several_labels_are_kept():
    rows = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    assert MANY.rows(rows, 3).tolist() == rows.tolist()
    assert MANY.rows(rows, 3).dtype == np.float64


@pytest.mark.parametrize(
    ("task", "targets", "complaint"),
    [
        (ONE, [0.0, 1.0], "whole numbers"),
        (ONE, [[0, 1, 0]], "whole numbers"),
        (ONE, [0, 3], "from 0 to 2"),
        (ONE, [-1], "from 0 to 2"),
        (MANY, [[1, 2, 0]], "0 or 1"),
        (MANY, [[1, 0]], r"shape \(1, 3\)"),
        (MANY, [0, 1], r"shape \(2, 3\)"),
    ],
)
def test_targets_of_the_other_task_are_refused(task, targets, complaint):
    with pytest.raises(ValueError, match=complaint):
        task.rows(np.array(targets), 3)


def test_smoothing_gives_a_share_to_chance():
    one = ONE.soft_targets(np.array([1]), 4, 0.2)
    torch.testing.assert_close(one, torch.tensor([[0.05, 0.85, 0.05, 0.05]]))
    many = MANY.soft_targets(np.array([[1, 0, 0, 1]]), 4, 0.2)
    torch.testing.assert_close(many, torch.tensor([[0.9, 0.1, 0.1, 0.9]]))


@both
def test_targets_without_smoothing_are_the_rows_exactly(task):
    targets = np.array([1, 0]) if task.exclusive else np.array([[1, 1], [0, 0]])
    soft = task.soft_targets(targets, 2)
    assert soft.dtype == torch.float32
    assert soft.tolist() == task.rows(targets, 2).tolist()


def test_one_label_has_a_softmax():
    p = ONE.probabilities(torch.tensor([math.log(1), math.log(2), math.log(5)]))
    assert p.tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_several_labels_have_a_sigmoid_each():
    p = MANY.probabilities(torch.tensor([math.log(3), math.log(9), -math.log(3)]))
    assert p.tolist() == pytest.approx([0.75, 0.9, 0.25])


@both
def test_logarithms_are_those_of_the_probabilities(task):
    logits = torch.randn(4, 5, 3, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(task.log_probabilities(logits).exp(), task.probabilities(logits))


@both
def test_a_recording_has_the_probabilities_of_its_segments_mean_logits(task):
    logits = torch.randn(7, 4, generator=seeded(), dtype=torch.float64)
    pooled = task.pool_probabilities(logits.numpy())
    np.testing.assert_allclose(pooled, task.probabilities(logits.mean(0)).numpy(), rtol=1e-13)


@both
def test_huge_logits_are_finite(task):
    logits = torch.tensor(HUGE)
    hot = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3)
    assert torch.isfinite(task.log_probabilities(logits)).all()
    assert torch.isfinite(task.loss(logits, hot))
    assert torch.isfinite(task.belief(logits)).all()
    for row in HUGE:
        p = task.pool_probabilities(np.array([row]))
        assert np.isfinite(p).all()
        assert math.isfinite(task.entropy(p))


def test_loss_of_one_label_is_the_cross_entropy_of_soft_targets():
    logits = torch.randn(2, 5, 3, generator=seeded())
    targets = torch.softmax(torch.randn(2, 5, 3, generator=seeded(1)), -1)
    slow = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1))
    torch.testing.assert_close(ONE.loss(logits, targets), slow)


def test_loss_of_several_labels_is_the_mean_over_classes():
    logits, targets = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.25]])
    no = math.log(1 + math.exp(2.0))
    expected = (math.log(2) + 0.25 * (no - 2.0) + 0.75 * no) / 2
    assert float(MANY.loss(logits, targets)) == pytest.approx(expected)


def test_belief_in_one_label_is_the_softmax():
    belief = ONE.belief(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    assert belief[0].tolist() == [0.5, 0.5]
    assert float(belief[1, 0]) == pytest.approx(sigmoid(2.0), abs=1e-6)


def test_belief_in_several_labels_shares_out_the_sigmoids():
    belief = MANY.belief(torch.tensor([[40.0, 40.0, -40.0]]))
    torch.testing.assert_close(belief, torch.tensor([[0.5, 0.5, 0.0]]))


def test_belief_in_no_label_is_finite_and_no_more_than_one():
    assert MANY.belief(torch.full((1, 3), -200.0)).tolist() == [[0.0, 0.0, 0.0]]


def test_one_label_is_said_and_the_first_of_equals():
    p = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert ONE.said(p).tolist() == [[False, True, False], [True, False, False]]
    assert ONE.said(p[0]).tolist() == [False, True, False]


def test_several_labels_are_said_from_one_half_on():
    p = np.array([[0.5, 0.49, 0.9], [0.1, 0.2, 0.3]])
    assert MANY.said(p).tolist() == [[True, False, True], [False, False, False]]


def test_rightness_of_one_label_is_a_hit_on_the_heaviest_class():
    logits = torch.tensor([[3.0, 1, 0], [0, 1, 3], [0, 2, 1]])
    targets = torch.tensor([[0.9, 0.05, 0.05], [0.6, 0.0, 0.4], [0.0, 1.0, 0.0]])
    assert ONE.rightness(logits, targets).tolist() == [1.0, 0.0, 1.0]


def test_rightness_of_several_labels_equals_a_slow_jaccard_index():
    generator = seeded(3)
    logits = torch.randn(200, 3, generator=generator)
    targets = torch.rand(200, 3, generator=generator)
    got = MANY.rightness(logits, targets).tolist()
    for index in range(200):
        said = {c for c in range(3) if logits[index, c] > 0}
        true = {c for c in range(3) if targets[index, c] > 0.5}
        expected = len(said & true) / len(said | true) if said | true else 1.0
        assert got[index] == pytest.approx(expected)


def test_entropy_of_one_label_is_that_of_the_distribution():
    assert ONE.entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))
    assert ONE.entropy(np.array([1.0, 0.0])) == pytest.approx(0.0, abs=1e-9)


def test_entropy_of_several_labels_is_the_mean_over_them():
    assert MANY.entropy(np.array([0.5, 1.0])) == pytest.approx(math.log(2) / 2)
    assert MANY.entropy(np.zeros(3)) == pytest.approx(0.0, abs=1e-9)
