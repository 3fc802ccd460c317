"""What a router would have known: made as it is served, on answers that do not know the source."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import RoutingConfig
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import combine, stack_replies
from xmoe.mixture.promise_router import renew_evidence
from xmoe.routing.promise import ANSWER_NUMBERS
from xmoe.training import observe as observe_module
from xmoe.training.observe import glance_at, measure_noisy, observe, read_pieces
from xmoe.training.promises import HeldTable, describe_depths


def describe(fitted, said, glance):
    """Return evidence and answers by depth for what stem and experts said [1 + E, n, C]."""
    clips = np.arange(len(glance))
    ids = tuple(map(str, clips))
    rows = np.zeros((len(glance), said.shape[2]))
    names = ("stem", *fitted.names)
    logits = said.double().numpy()[:, None]
    table = HeldTable(
        names, logits, glance.double().numpy()[None], rows, clips, clips, ids, fitted.job.task
    )
    return describe_depths(table, fitted.stacks, 0)


def test_noisy_copies_are_answered_differently_and_no_better(mixed):
    whole, noisy = mixed.table.logits[:, 0], mixed.table.logits[:, 1]
    assert whole.shape == noisy.shape
    assert not np.allclose(whole, noisy)
    truth = mixed.table.rows.argmax(1)
    assert (noisy.argmax(2) == truth).mean() <= (whole.argmax(2) == truth).mean()


def test_evidence_and_answers_are_made_as_they_are_served(mixed):
    fitted, model = mixed.fitted, deepcopy(mixed.model)
    model.router.reads_glance = True
    pieces, rate_hz, _ = next(read_pieces(fitted, np.arange(len(fitted.targets.rows))))
    segments = [Segment(one, rate_hz, 0) for one in pieces]
    frontend = build_frontend(fitted.job.spectro)
    spec = frontend.compress(*measure_segments(segments, frontend))
    plan, inputs = model.prepare(spec, RoutingConfig(), sound=hold_sound(segments), k=9)
    seen = glance_at(model, frontend, segments, plan.stem_logits)
    torch.testing.assert_close(seen, plan.evidence, atol=1e-4, rtol=1e-4)

    replies = call_experts(model.callers(), model.requests(plan, inputs))
    said = torch.cat([plan.stem_logits[None], stack_replies(plan, replies)[0]])
    evidence, answers = describe(fitted, said, plan.evidence)
    for k in range(len(said)):
        asked = plan.with_counts(torch.full((len(spec),), k))
        logits = combine(asked, replies).logits
        assert answers[k] == pytest.approx(logits.numpy(), abs=1e-4)
        if k:
            mine = renew_evidence(plan.evidence, said[: k + 1], logits, model.task)
            assert evidence[k] == pytest.approx(mine.numpy(), abs=1e-3)


def test_of_many_clips_as_many_are_watched_as_can_be(mixed, monkeypatch):
    monkeypatch.setattr(observe_module, "MOST_CLIPS", 5)
    rows = mixed.fitted.features.rows_of(measure_noisy(mixed.fitted))
    owners = mixed.fitted.features.owners
    assert len(set(owners[rows].tolist())) == 5
    for clip in set(owners[rows].tolist()):
        assert np.isin(np.flatnonzero(owners == clip), rows).all()
    pieces = list(read_pieces(mixed.fitted, rows))
    assert sum(len(own) for own, _, _ in pieces) == len(rows)


def test_of_clips_that_were_seen_before_only_the_belief_is_new(mixed, monkeypatch):
    fitted, heard = mixed.fitted, measure_noisy(mixed.fitted)
    half = mixed.table.clip_ids[::2]
    kept = np.isin(np.array(mixed.table.clip_ids)[mixed.table.clips], half)
    before = replace(
        mixed.table,
        glance=mixed.table.glance[:, kept],
        clips=np.unique(mixed.table.clips[kept], return_inverse=True)[1],
        clip_ids=half,
    )
    read = []
    original = observe_module.load_clips
    monkeypatch.setattr(
        observe_module,
        "load_clips",
        lambda dataset, examples: read.extend(examples) or original(dataset, examples),
    )
    again = observe(fitted, mixed.model, heard, before=before)
    assert {one.clip_id for one in read} == set(mixed.table.clip_ids) - set(half)
    assert again.clip_ids == mixed.table.clip_ids
    assert (again.logits == mixed.table.logits).all()
    assert again.glance == pytest.approx(mixed.table.glance, abs=1e-5)

    flat = replace(fitted.heads["stem"], held_out=0.0 * fitted.heads["stem"].held_out)
    doubtful = replace(fitted, heads={**fitted.heads, "stem": flat})
    unsure = observe(doubtful, mixed.model, heard, before=mixed.table)
    told = 2 * ANSWER_NUMBERS
    assert not np.allclose(unsure.glance[0, :, :told], mixed.table.glance[0, :, :told])
    assert unsure.glance[0, :, told:] == pytest.approx(mixed.table.glance[0, :, told:])
