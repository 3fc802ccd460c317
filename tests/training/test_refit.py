"""A mixture fitted anew from features that are there: the same heads, its experts in order."""

import numpy as np
import pytest

from tests.fixtures.closed import COSTS_MS
from xmoe.base.task import task_of
from xmoe.policy.records import StackRow
from xmoe.training.refit import order_experts, refit
from xmoe.training.stack import HeldOut

CLIPS = 200


@pytest.mark.usefixtures("few_families")
def test_heads_weights_and_order_are_those_of_the_first_fit(closed_fit):
    record = {"candidates": [row.model_dump() for row in closed_fit.rows], "dropped": {}}
    specs = closed_fit.specs[::-1]
    again = refit(closed_fit.job, closed_fit.features, specs, record, order_anew=True)
    assert again.names == closed_fit.names
    assert again.ms == {name: COSTS_MS[name] for name in again.names}
    for name, head in closed_fit.heads.items():
        assert (again.heads[name].head.weights == head.head.weights).all()
        assert (again.heads[name].held_out == head.held_out).all()
    for one, other in zip(again.stacks, closed_fit.stacks, strict=True):
        assert one.weights == pytest.approx(other.weights)
    kept = refit(closed_fit.job, closed_fit.features, specs, record)
    assert kept.names == closed_fit.names[::-1]
    assert tuple(row.name for row in kept.rows if row.taken) == kept.names
    gains = [{row.name: row.gain for row in fit.rows} for fit in (kept, closed_fit)]
    assert gains[0] == gains[1]


def test_who_adds_nothing_comes_last_and_the_dear_after_the_cheap(rng):
    truth = rng.integers(0, 2, CLIPS)
    rows = np.eye(2)[truth]

    def say(right):
        sure = np.where(rng.random(CLIPS) < right, 1.0, -1.0)[:, None]
        return 1.5 * sure * (2 * rows - 1)

    logits = {"stem": say(0.6), "flat": 0.0 * rows, "good": say(0.85), "dear": say(0.9)}
    held = HeldOut(logits, rows, np.arange(CLIPS), task_of("single_label"))
    ms = {"dear": 50.0, "flat": 1.0, "good": 2.0}
    old = StackRow(
        name="gone",
        ms=1.0,
        alone=1.0,
        gain=0.0,
        gain_se=0.0,
        taken=False,
        place=None,
        weight=0.0,
        reason="enough are taken",
    )
    stale = old.model_copy(update={"name": "good"})
    names, table = order_experts(held, ms, ["dear"], [old, stale])
    assert names == ["good", "flat", "dear"]
    told = {row.name: row for row in table}
    assert told["good"].taken
    assert told["dear"].taken
    assert not told["flat"].taken
    assert told["gone"] == old
    assert len(table) == 4
