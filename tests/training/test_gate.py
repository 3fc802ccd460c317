"""A gate where evidence tells who is right, and none where it tells nothing."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax

from xmoe.base.task import task_of
from xmoe.routing.stack import gated
from xmoe.training.gate import GATE_L2, fit_gate, try_gate
from xmoe.training.stack import HeldOut, fit_stack

ONE = task_of("single_label")
CLIPS = 400


@pytest.fixture(scope="module")
def planted():
    """Answers of two experts, the first good where the evidence is high, the second where low."""
    rng = np.random.default_rng(0)
    truth = np.eye(3)[rng.integers(0, 3, CLIPS)]
    evidence = np.stack([rng.normal(5.0, 2.0, CLIPS), rng.normal(size=CLIPS)], 1)
    high = (evidence[:, :1] > 5.0).astype(float)
    noise = rng.normal(size=(2, CLIPS, 3))
    logits = {
        "high": log_softmax(3 * truth * high + noise[0], 1),
        "low": log_softmax(3 * truth * (1 - high) + noise[1], 1),
    }
    return HeldOut(logits, truth, np.arange(CLIPS) // 8, ONE), evidence


def test_evidence_that_tells_who_is_right_makes_a_gate(planted):
    held, evidence = planted
    fixed = fit_stack(held, ["high", "low"])
    gate, trial = try_gate(held, fixed, evidence)
    assert trial.taken
    assert trial.gain > 0.03
    before = held.losses(fixed.combine(held.logits)).mean()
    after = held.losses(gate.combine(held.logits, evidence)).mean()
    assert after < before - 0.03
    weights = gate.weigh(["high", "low"], evidence)
    assert weights[evidence[:, 0] > 7, 0].mean() > weights[evidence[:, 0] < 3, 0].mean()


def test_evidence_that_tells_nothing_makes_none(planted):
    held, evidence = planted
    fixed = fit_stack(held, ["high", "low"])
    shuffled = np.random.default_rng(1).permutation(evidence)
    gate, trial = try_gate(held, fixed, shuffled)
    assert not trial.taken
    assert gate == fixed
    assert "weights stay fixed" in trial.reason


@pytest.mark.parametrize("alone", ["expert", "source"])
def test_nothing_to_choose_or_to_judge_makes_none(planted, alone):
    held, evidence = planted
    names = ["high"] if alone == "expert" else ["high", "low"]
    units = held.units if alone == "expert" else np.zeros(CLIPS, dtype=int)
    held = HeldOut(held.logits, held.rows, units, ONE)
    assert not try_gate(held, fit_stack(held, names), evidence)[1].taken


def test_a_fitted_gate_is_at_the_bottom_of_its_loss(planted):
    held, evidence = planted
    seen = (evidence - evidence.mean(0)) / evidence.std(0)
    table, weights = held.table(["high", "low"]), np.array([[0.7, 0.7]])
    gate = fit_gate(table, held.rows, weights, seen, ONE)

    def loss(flat):
        shape = flat.reshape(2, 3)
        mixed = np.einsum("ne,enc->nc", gated(weights, shape, seen), table)
        return held.losses(mixed).mean() + GATE_L2 * np.square(shape).sum()

    def flat_slope(flat):
        return np.zeros_like(flat)

    assert check_grad(loss, flat_slope, gate.ravel()) == pytest.approx(0.0, abs=2e-3)
