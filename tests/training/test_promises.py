"""Promises of a fitted mixture: kept by price, on answers that do not know the source."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from xmoe.base.errors import RunFolderError
from xmoe.base.task import task_of
from xmoe.experts.probabilities import to_probabilities
from xmoe.mixture.promise_router import GLANCED
from xmoe.routing.promise import ANSWER_NUMBERS
from xmoe.training.promise import fit_promise
from xmoe.training.promises import promise, read_table, soften
from xmoe.training.reading import hide


def test_every_depth_is_known_clean_and_noisy(mixed):
    known, fitted = mixed.promised, mixed.fitted
    rows, experts = int(fitted.targets.judges.sum()), len(fitted.names)
    assert known.depths.right.shape == (2 * rows, experts + 1)
    assert known.mixed.shape == (experts + 1, 2 * rows, 4)
    assert [table.shape[0] for table in known.depths.evidence] == [2 * rows] * (experts + 1)
    assert known.clean.tolist() == list(range(rows))
    assert known.depths.order == fitted.names
    assert 1 <= known.promises.first_most <= experts


def test_clean_answers_are_the_stacks_of_held_out_ones_but_for_their_length(mixed):
    fitted, known = mixed.fitted, mixed.promised
    held = {name: head.held_out for name, head in fitted.heads.items()}
    for k, stack in enumerate(fitted.stacks):
        expected = stack.combine(held) / sum(stack.weights.values())
        assert known.mixed[k][known.clean] == pytest.approx(expected, abs=1e-5)


def test_promises_are_fitted_to_answers_without_a_step_from_wrong_to_right(mixed):
    depths = mixed.promised.depths
    assert depths.aims is depths.softened
    glance = mixed.promised.promises.depths[0]
    strengths = (1e-3, 1e-2, 1e-1, 1.0)
    refits = [
        fit_promise(seen.evidence[0], depths.softened, one)
        for seen, one in product((depths, hide(depths, [GLANCED])), strengths)
    ]
    assert any(np.allclose(one.weights, glance.weights) for one in refits)


def test_an_answer_that_just_fails_counts_more_than_one_far_off():
    one, two = task_of("single_label"), task_of("multi_label")
    answers = np.log([[0.45, 0.55], [0.01, 0.99], [0.9, 0.1]])
    truth = np.array([[1.0, 0.0]] * 3)
    # The odds squared: 0.45^2 / (0.45^2 + 0.55^2).
    assert soften(answers, truth, one) == pytest.approx([0.401, 0.0001, 0.988], abs=1e-3)
    assert soften(np.array([[2.0, 1.0, -1.0]]), np.array([[1.0, 0.0, 0.0]]), two) == [0.5]


def test_neither_answers_nor_copies_know_their_source(leaky):
    assert leaky.promised.depths.right.mean() < 0.7


def test_the_glance_is_the_first_evidence_with_the_held_out_belief(mixed):
    fitted, known = mixed.fitted, mixed.promised
    belief = to_probabilities(fitted.heads["stem"].held_out, fitted.job.task)
    ranked = np.sort(belief, axis=1)
    margin = known.depths.evidence[0][known.clean, 3]
    assert margin == pytest.approx(ranked[:, -1] - ranked[:, -2], abs=1e-5)
    renewed = known.depths.evidence[1][:, ANSWER_NUMBERS:]
    assert (renewed == known.depths.evidence[0][:, ANSWER_NUMBERS:]).all()


def test_a_price_asks_fewer_the_higher_it_is_and_below_zero_everyone(mixed):
    known = mixed.promised
    asked = [known.asked_at(price).mean() for price in (-1.0, 0.0, 0.01, 1.0)]
    assert asked[0] == len(known.depths.order)
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == 0.0
    assert replace(known, folds=()).asked_at(1.0).tolist() == [len(known.depths.order)] * len(
        known.rows
    )


def test_what_is_kept_of_held_out_answers_gives_the_same_promises(mixed, tmp_path):
    path = tmp_path / "held_out.safetensors"
    path.write_bytes(mixed.table.to_bytes())
    again = read_table(path, mixed.fitted.names, mixed.table.task)
    assert len({mixed.table.to_bytes() for _ in range(8)}) == 1
    assert again.names == mixed.table.names
    assert again.logits == pytest.approx(mixed.table.logits, abs=1e-4)
    last = read_table(path, mixed.fitted.names[-1:], mixed.table.task)
    assert last.names == ("stem", mixed.fitted.names[-1])
    assert (last.logits == again.logits[[0, -1]]).all()
    assert (again.units == mixed.table.units).all()
    assert again.clip_ids == mixed.table.clip_ids
    seen = again.glances()
    assert tuple(seen) == again.clip_ids
    assert (np.concatenate(list(seen.values()), 1) == again.glance).all()
    known = promise(again, mixed.fitted.stacks, mixed.fitted.ms)
    assert known.mixed == pytest.approx(mixed.promised.mixed, abs=1e-4)
    assert known.depths.right == pytest.approx(mixed.promised.depths.right)


def test_a_table_of_other_experts_or_a_torn_one_is_refused(mixed, tmp_path):
    path = tmp_path / "held_out.safetensors"
    path.write_bytes(mixed.table.to_bytes())
    with pytest.raises(RunFolderError, match="other experts"):
        read_table(path, ("one", *mixed.fitted.names), mixed.table.task)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunFolderError, match="whole safetensors"):
        read_table(path, mixed.fitted.names, mixed.table.task)


def test_a_table_without_an_expert_holds_the_others_as_they_were(mixed):
    last = mixed.fitted.names[-1]
    less = mixed.table.keep([last])
    assert less.names == ("stem", last)
    assert (less.logits[1] == mixed.table.logits[-1]).all()
