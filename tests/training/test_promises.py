"""Promises of a fitted mixture: made of what is served, on answers that do not know the source."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import RoutingConfig
from xmoe.experts.probabilities import to_probabilities
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import combine, stack_replies
from xmoe.routing.promise import ANSWER_NUMBERS
from xmoe.training import promises
from xmoe.training.promises import (
    answer_copy,
    describe_depths,
    glance_at,
    pick_rows,
    read_pieces,
)


def test_every_depth_is_known_clean_and_noisy(mixed):
    known, fitted = mixed.promised, mixed.fitted
    rows, experts = len(fitted.judges), len(fitted.names)
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
        assert known.mixed[k][known.clean] == pytest.approx(expected[pick_rows(fitted)], abs=1e-5)


def test_noisy_copies_are_answered_differently_and_no_better(mixed):
    fitted = mixed.fitted
    whole, noisy = (answer_copy(fitted, copy, lambda *_: None) for copy in promises.COPIES)
    assert whole.shape == noisy.shape
    assert not np.allclose(whole, noisy)
    truth = fitted.targets.rows.argmax(1)
    assert (noisy.argmax(2) == truth).mean() <= (whole.argmax(2) == truth).mean()


def test_neither_answers_nor_copies_know_their_source(leaky):
    assert leaky.promised.depths.right.mean() < 0.7


def test_evidence_and_answers_are_made_as_they_are_served(mixed):
    fitted, model = mixed.fitted, mixed.model
    pieces, rate_hz, _ = next(read_pieces(fitted, fitted.judges))
    segments = [Segment(one, rate_hz, 0) for one in pieces]
    frontend = build_frontend(fitted.job.spectro)
    spec = frontend.compress(*measure_segments(segments, frontend))
    plan, inputs = model.prepare(spec, RoutingConfig(), sound=hold_sound(segments), k=9)
    seen = glance_at(model, frontend, segments, plan.stem_logits)
    torch.testing.assert_close(seen, plan.evidence, atol=1e-4, rtol=1e-4)

    replies = call_experts(model.callers(), model.requests(plan, inputs))
    said = torch.cat([plan.stem_logits[None], stack_replies(plan, replies)[0]])
    evidence, answers = describe_depths(fitted, model, said.double().numpy(), plan.evidence)
    for k in range(len(said)):
        asked = plan.with_counts(torch.full((len(spec),), k))
        logits = combine(asked, replies).logits
        assert answers[k] == pytest.approx(logits.numpy(), abs=1e-4)
        if k:
            mine = model.router.renew_evidence(plan.evidence, said[: k + 1], logits)
            assert evidence[k] == pytest.approx(mine.numpy(), abs=1e-3)


def test_the_glance_is_the_first_evidence_with_the_held_out_belief(mixed):
    fitted, known = mixed.fitted, mixed.promised
    belief = to_probabilities(fitted.heads["stem"].held_out[pick_rows(fitted)], fitted.job.task)
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


def test_of_many_clips_as_many_are_watched_as_can_be(mixed, monkeypatch):
    monkeypatch.setattr(promises, "MOST_CLIPS", 5)
    rows = pick_rows(mixed.fitted)
    owners = mixed.fitted.features.owners
    assert len(set(owners[rows].tolist())) == 5
    for clip in set(owners[rows].tolist()):
        assert np.isin(np.flatnonzero(owners == clip), rows).all()
    pieces = list(read_pieces(mixed.fitted, rows))
    assert sum(len(own) for own, _, _ in pieces) == len(rows)
