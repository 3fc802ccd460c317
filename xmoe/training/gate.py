"""Evidence on clips -> weights that change from clip to clip, where that beats fixed ones.

The gate is taken only if it lowers the log loss on sources that it was not fitted on by more than a
standard error: prototypes found fixed weights hard to beat, and a gate that is no better only adds
something that can go wrong. E experts, n clips, C classes, G numbers of evidence.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from xmoe.base.config import Frozen
from xmoe.base.task import Task
from xmoe.experts.probabilities import log_losses, to_probabilities
from xmoe.experts.ridge import Floats, Ints
from xmoe.policy.race import mean_and_error
from xmoe.routing.stack import Stack, gated
from xmoe.training.promise import fold_units
from xmoe.training.stack import HeldOut, fit_weights

GATE_L2 = 0.02
_LEAST_SCALE = 1e-6


class GateTrial(Frozen):
    """What the gate gains over fixed weights on sources left out, in nats, and its verdict."""

    gain: float
    gain_se: float
    taken: bool
    reason: str


def try_gate(held: HeldOut, stack: Stack, evidence: Floats) -> tuple[Stack, GateTrial]:
    """Return the stack, with a gate on evidence [n, G] if it pays, and the trial."""
    names = list(stack.weights)
    mean, scale = evidence.mean(axis=0), evidence.std(axis=0)
    scale = np.where(scale > _LEAST_SCALE, scale, 1.0)
    seen = (evidence - mean) / scale
    folds = fold_units(held.units)
    if len(names) < 2 or folds.max() == 0:
        reason = "one expert needs no gate" if len(names) < 2 else "one source cannot judge a gate"
        return stack, GateTrial(gain=0.0, gain_se=0.0, taken=False, reason=reason)
    gains = _cross_fit(held.table(names), held.rows, seen, folds, held.task)
    gain, error = mean_and_error(gains, held.units)
    taken = gain > error
    reason = f"{gain:+.3f} +- {error:.3f} nats on sources left out: " + (
        "more than a standard error"
        if taken
        else "no more than a standard error, weights stay fixed"
    )
    trial = GateTrial(gain=gain, gain_se=error, taken=taken, reason=reason)
    if not taken:
        return stack, trial
    weights = np.array([[stack.weights[name] for name in names]])
    gate = fit_gate(held.table(names), held.rows, weights, seen, held.task)
    slopes = gate[:, :-1] / scale
    gate = np.concatenate([slopes, gate[:, -1:] - slopes @ mean[:, None]], axis=1)
    rows = {name: tuple(map(float, row)) for name, row in zip(names, gate, strict=True)}
    return stack.model_copy(update={"gate": rows}), trial


def fit_gate(table: Floats, rows: Floats, weights: Floats, evidence: Floats, task: Task) -> Floats:
    """Return the gate [E, G + 1] that moves ``weights`` [1, E] with the least log loss.

    ``evidence`` [n, G] is standardised.
    """
    experts, clips, _ = table.shape
    seen = np.concatenate([evidence, np.ones((clips, 1))], axis=1)
    decisions = rows.size if not task.exclusive else clips
    total = weights.sum()

    def loss(flat: Floats) -> tuple[float, Floats]:
        gate = flat.reshape(experts, -1)
        moved = gated(weights, gate, evidence)
        mixed = np.einsum("ne,enc->nc", moved, table)
        wrong = to_probabilities(mixed, task) - rows
        slope = np.einsum("nc,enc->ne", wrong, table) * moved
        slope -= moved * slope.sum(axis=1, keepdims=True) / total
        slope *= 1.0 - np.tanh(seen @ gate.T) ** 2
        penalty = GATE_L2 * np.square(gate).sum()
        value = float(log_losses(mixed, rows, task).mean() + penalty)
        return value, (slope.T @ seen / decisions + 2.0 * GATE_L2 * gate).ravel()

    start = np.zeros(experts * seen.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x).reshape(experts, -1)


def _cross_fit(table: Floats, rows: Floats, evidence: Floats, folds: Ints, task: Task) -> Floats:
    """Return what a gate takes off the log loss of each clip [n] whose fold it does not know."""
    gains = np.zeros(len(rows))
    for fold in range(int(folds.max()) + 1):
        known, fresh = folds != fold, folds == fold
        weights = fit_weights(table[:, known], rows[known], task)[None]
        gate = fit_gate(table[:, known], rows[known], weights, evidence[known], task)
        fixed = np.einsum("e,enc->nc", weights[0], table[:, fresh])
        moved = gated(weights, gate, evidence[fresh])
        mixed = np.einsum("ne,enc->nc", moved, table[:, fresh])
        before, after = (log_losses(part, rows[fresh], task) for part in (fixed, mixed))
        gains[fresh] = before - after
    return gains
