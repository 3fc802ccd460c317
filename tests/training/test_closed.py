"""A mixture in closed form: who is taken and in what order, judged by sources left out alone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.fixtures.closed import COSTS_MS, OF_A_SOURCE, SOURCES, SPECTRO
from tests.fixtures.runs import RATE_HZ
from xmoe.audio.dataset import load_dataset
from xmoe.experts.probabilities import to_probabilities
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.training import closed, kernel_features
from xmoe.training.closed import CLEAR_SE, ClosedJob, fit_closed, rightness
from xmoe.training.ears import StemSpec


def hold(fitted):
    return closed.hold_out(fitted.heads, fitted.targets, fitted.units)


KNOWN = OF_A_SOURCE * (SOURCES["train"] + SOURCES["val"])


def test_experts_that_hear_different_things_are_taken_together(closed_fit):
    assert len(closed_fit.names) >= 2
    assert set(closed_fit.names) <= set(COSTS_MS)
    assert set(closed_fit.heads) == {STEM_NAME, *closed_fit.names}
    losses = [
        hold(closed_fit).losses(stack.combine(hold(closed_fit).logits)).mean()
        for stack in closed_fit.stacks
    ]
    assert losses[-1] < losses[0] - 0.05
    for k, stack in enumerate(closed_fit.stacks):
        assert tuple(stack.weights) == (STEM_NAME, *closed_fit.names[:k])


def test_the_table_tells_of_every_candidate_what_it_costs(closed_fit):
    assert {row.name: row.ms for row in closed_fit.rows} == COSTS_MS
    places = {row.name: row.place for row in closed_fit.rows if row.taken}
    assert sorted(places, key=places.__getitem__) == list(closed_fit.names)
    assert closed_fit.dropped == {"mid": "three are enough"}
    assert "source" in closed_fit.judged


def test_each_clip_counts_once_however_many_segments_it_has(closed_fit):
    features, targets = closed_fit.features, closed_fit.targets
    assert len(features.examples) == KNOWN
    assert features.counts.max() > 1
    assert np.bincount(features.owners, targets.shares) == pytest.approx(np.ones(KNOWN))
    assert len(targets.rows) == features.counts.sum() == len(closed_fit.units)


def test_held_out_answers_do_not_know_their_source(leaky):
    fitted = leaky.fitted
    rows, task = fitted.targets.rows, fitted.job.task
    stem = {STEM_NAME: StemSpec(spectro=SPECTRO)}
    for name, spec in (stem | closed.by_name(fitted.specs)).items():
        head = fitted.heads[name]
        known = head.answer(fitted.features.table(spec))
        assert rightness(known, rows, task).mean() > 0.8, name
        assert rightness(head.held_out, rows, task).mean() < 0.7, name


def test_who_is_wrong_on_every_source_left_out_answers_nearly_flat(leaky):
    held = hold(leaky.fitted)
    for stack in leaky.fitted.stacks:
        assert sum(stack.weights.values()) > 0.0
        assert to_probabilities(stack.combine(held.logits), held.task).max() < 0.6


@pytest.mark.usefixtures("few_families")
def test_a_second_fit_measures_nothing_and_finds_the_same(closed_job, closed_fit, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("features or costs were measured again")

    monkeypatch.setattr(kernel_features, "_measure_all", refuse)
    monkeypatch.setattr(closed, "measure_ms", refuse)
    again = fit_closed(closed_job, first=refuse)  # of few clips all are searched at once
    assert again.stacks == closed_fit.stacks
    assert again.ms == COSTS_MS
    for name, head in closed_fit.heads.items():
        assert (again.heads[name].head.weights == head.head.weights).all()


@pytest.mark.usefixtures("few_families")
def test_candidates_are_searched_on_some_clips_and_fitted_on_all(closed_job, monkeypatch):
    monkeypatch.setattr(closed, "SEARCH_CLIPS", 24)
    early = []
    fitted = fit_closed(closed_job, first=early.append)
    assert len(fitted.features.examples) == KNOWN
    assert all(len(head.held_out) == len(fitted.targets.rows) for head in fitted.heads.values())
    (first,) = early
    assert len(first.features.examples) == 24
    assert set(first.names) <= set(first.ms)
    assert all(len(head.held_out) == len(first.targets.rows) for head in first.heads.values())
    assert first.speeds == "not tried yet"


@pytest.mark.usefixtures("few_families")
def test_copies_at_other_speeds_stay_where_sources_differ_in_pitch(voices, tmp_path):
    fitted = fit_closed(ClosedJob(load_dataset(voices), SPECTRO, tmp_path / "features", RATE_HZ))
    assert fitted.features.copied.examples == fitted.features.examples
    assert fitted.speeds.endswith("less")
    gain, error = map(float, re.findall(r"\d\.\d+", fitted.speeds)[-2:])
    assert gain > max(error, 0.01)
    for name in (STEM_NAME, *fitted.names):
        assert len(fitted.heads[name].held_out) == len(fitted.targets.rows)
        assert len(fitted.heads[name].targets.copies) == 2 * len(fitted.targets.rows)


@pytest.mark.usefixtures("few_families")
def test_copies_at_other_speeds_go_where_pitch_is_the_class(pitches, tmp_path):
    fitted = fit_closed(ClosedJob(load_dataset(pitches), SPECTRO, tmp_path / "features", RATE_HZ))
    assert fitted.features.copied is None
    assert fitted.speeds.endswith("more")
    loss, error = map(float, re.findall(r"\d\.\d+", fitted.speeds)[-2:])
    assert loss > CLEAR_SE * error
    assert all(not len(head.targets.copies) for head in fitted.heads.values())


def test_copies_at_other_speeds_stay_where_they_lose_no_more_than_chance_explains(closed_fit):
    assert closed_fit.speeds.endswith("more")
    loss, error = map(float, re.findall(r"\d\.\d+", closed_fit.speeds)[-2:])
    assert loss < CLEAR_SE * error
    assert closed_fit.features.copied is not None


def test_experts_that_weigh_nothing_keep_their_place_where_a_run_is_routed_anew(closed_fit):
    held = hold(closed_fit)
    useless = {**held.logits, "useless": np.zeros_like(held.rows)}
    names = [*closed_fit.names, "useless"]
    stacks = closed.stack_depths(replace(held, logits=useless), names)
    assert len(stacks) == len(names) + 1
    assert stacks[-1].weights["useless"] < closed.LEAST_WEIGHT
    assert len(closed.weigh_by_depth(replace(held, logits=useless), names)) == len(names)
