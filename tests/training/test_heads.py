"""Heads: the same by both ways of fitting, as sharp as held-out answers allow, ready to answer."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from xmoe.audio.dataset import Example
from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import KernelsSpec, SpectroConfig
from xmoe.base.task import task_of
from xmoe.experts.kernels import KernelsEar, KernelsExpert
from xmoe.experts.probabilities import log_losses
from xmoe.experts.protocol import Inputs
from xmoe.experts.ridge import RidgeProblem
from xmoe.training import heads
from xmoe.training.heads import (
    Targets,
    fit_either,
    fit_head,
    fit_head_from_blocks,
    fit_scaled,
    gather_folds,
)
from xmoe.training.kernel_features import Features, feature_file

SPEC = KernelsSpec(name="one", family="broadband", spectro=SpectroConfig(), kernels=1)
BLOCK_ROWS = 4096
ONE, MANY = task_of("single_label"), task_of("multi_label")
CLIPS, FEATURES = 120, 20


def make(*, task=ONE, judges=None, balanced=False, groups=None, noise=1.0):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, CLIPS)
    rows = np.eye(3)[kinds]
    features = rows @ rng.normal(size=(3, FEATURES)) + noise * rng.normal(size=(CLIPS, FEATURES))
    judges = np.ones(CLIPS, dtype=bool) if judges is None else judges
    groups = np.arange(CLIPS) // 8 if groups is None else groups
    return features.astype(np.float32), Targets(rows, groups, judges, task, balanced=balanced)


@pytest.mark.parametrize("task", [ONE, MANY])
def test_held_out_answers_are_nearly_as_good_as_they_claim(task):
    features, targets = make(task=task, noise=3.0)
    fit = fit_head(features, targets)
    losses = log_losses(fit.held_out, targets.rows, task)
    assert losses.mean() < 0.8 * log_losses(np.zeros_like(targets.rows), targets.rows, task).mean()
    for factor in (0.5, 2.0):
        assert log_losses(factor * fit.held_out, targets.rows, task).mean() > losses.mean()


def test_sums_over_blocks_fit_the_head_of_all_rows():
    features, targets = make(groups=np.arange(CLIPS) % 5)
    blocks = [features[:50], features[50:51], features[51:]]
    summed = fit_head_from_blocks(lambda: iter(blocks), targets)
    whole = fit_head(features, targets)
    exact = whole.problem.fit(summed.penalty)
    assert summed.head.weights == pytest.approx(exact.weights, abs=1e-9)
    scores = whole.problem.leave_out(gather_folds(targets), summed.penalty)
    assert summed.held_out.argmax(1).tolist() == scores.argmax(1).tolist()


def test_judges_that_are_not_all_get_a_fold_of_their_own():
    judges = np.arange(CLIPS) >= 100
    groups = np.where(judges, 99, np.arange(CLIPS))
    _, targets = make(judges=judges, groups=groups)
    folds = gather_folds(targets)
    assert set(folds[judges].tolist()) == {0}
    assert 0 not in folds[~judges]
    features, targets = make(judges=judges, groups=groups)
    fit = fit_head_from_blocks(lambda: iter([features]), targets)
    assert np.isfinite(fit.held_out).all()


def test_balanced_heads_answer_rare_classes_more_often():
    features, targets = make(noise=3.0)
    rows = targets.rows.copy()
    rare = (rows[:, 2] == 1) & (np.arange(CLIPS) % 4 > 0)
    kept = np.flatnonzero(~rare)
    plain, even = (
        fit_head(
            features[kept],
            replace(Targets(rows, targets.groups, targets.judges, ONE), balanced=balanced).pick(
                kept
            ),
        )
        for balanced in (False, True)
    )
    said = [int((fit.held_out.argmax(1) == 2).sum()) for fit in (plain, even)]
    assert said[1] > said[0]


def test_rows_that_count_less_pull_the_head_less():
    features, targets = make(noise=3.0)
    wrong = targets.rows.copy()
    wrong[:60] = wrong[:60][:, [1, 2, 0]]
    shares = np.where(np.arange(CLIPS) < 60, 1e-6, 1.0)
    light, heavy = (
        fit_head(features, replace(targets, rows=wrong, shares=one)) for one in (shares, None)
    )
    half = fit_head(features[60:], targets.pick(np.arange(60, CLIPS)))
    exact = half.problem.fit(half.penalty).predict(features[60:])
    near, far = (
        np.abs(fit.problem.fit(half.penalty).predict(features[60:]) - exact).mean()
        for fit in (light, heavy)
    )
    assert near < 0.5 * far


def test_copies_are_answered_without_their_group():
    features, targets = make()
    fit = fit_head(features, targets)
    assert fit.answer_copies(features, np.arange(len(features))) == pytest.approx(
        fit.held_out, abs=1e-6
    )


def test_copies_of_summed_rows_are_answered_without_their_fold():
    features, targets = make()
    blocks = [features[:50], features[50:]]
    fit = fit_head_from_blocks(lambda: iter(blocks), targets)
    assert fit.answer_copies(features, np.arange(len(features))) == pytest.approx(
        fit.held_out, abs=1e-6
    )


def add_copies(targets, rng):
    owners = rng.permutation(CLIPS)[: CLIPS // 2]
    return replace(targets, copies=np.concatenate([owners, owners]))


@pytest.mark.parametrize("fit", [fit_head, lambda x, t: fit_head_from_blocks(lambda: iter([x]), t)])
def test_copies_that_are_fitted_on_tell_nothing_of_their_own_rows(fit, rng):
    _, targets = make()
    targets = add_copies(targets, rng)
    chance = rng.normal(size=(CLIPS, 200)).astype(np.float32)
    head = fit(np.concatenate([chance, chance[targets.copies]]), targets)
    assert head.held_out.shape == targets.rows.shape
    right = (head.held_out.argmax(1) == targets.rows.argmax(1)).mean()
    assert right < 0.5
    known = head.answer_copies(chance, np.arange(CLIPS))
    assert known == pytest.approx(head.held_out, abs=1e-6)


def test_a_copy_counts_by_half(rng):
    features, targets = make(noise=3.0)
    targets = add_copies(targets, rng)
    copies = features[targets.copies] + 0.1 * rng.normal(size=(CLIPS, FEATURES))
    every = np.concatenate([features, copies.astype(np.float32)])
    weights = np.repeat([1.0, 0.5], CLIPS)
    exact = RidgeProblem(every, targets.with_copies().rows, weights=weights)
    head = fit_head(every, targets)
    assert head.head.weights == pytest.approx(exact.fit(head.penalty).weights, abs=1e-12)
    summed = fit_head_from_blocks(lambda: iter([every[:50], every[50:]]), targets)
    same = exact.fit(summed.penalty * len(every) / weights.sum())
    assert summed.head.weights == pytest.approx(same.weights, abs=1e-9)


@pytest.mark.parametrize("most", [CLIPS, CLIPS - 1])
def test_few_rows_are_fitted_in_memory_and_more_from_sums(most, monkeypatch):
    monkeypatch.setattr(heads, "MOST_IN_MEMORY", most)
    features, targets = make()
    fit = fit_either(lambda: iter([features[:70], features[70:]]), targets)
    assert (fit.problem is None) == (most < CLIPS)
    assert (fit.by_fold is None) == (most >= CLIPS)


@pytest.mark.parametrize("task", [ONE, MANY])
def test_the_expert_answers_as_the_head_does(task):
    spectro = SpectroConfig(
        sample_rate_hz=8000, fmax_hz=4000.0, n_fft=256, win_length=200, hop_length=80, num_bins=16
    )
    spec = KernelsSpec(name="one", family="broadband", spectro=spectro, kernels=1)
    rng = np.random.default_rng(1)
    clips = [(0.1 * rng.standard_normal(2000)).astype(np.float32) for _ in range(30)]
    ear = KernelsEar(spec)
    features = np.stack([ear.measure(clip, 8000) for clip in clips])
    rows = np.eye(2)[np.arange(30) % 2]
    targets = Targets(rows, np.arange(30), np.ones(30, dtype=bool), task)
    fit = fit_scaled(lambda: iter([features]), targets)
    expert = KernelsExpert(spec, num_classes=2, exclusive=task.exclusive)
    expert.head.fill(fit.scaling, *fit.sharp_head())
    segments = [Segment(clip, 8000, 0) for clip in clips[:2]]
    inputs = Inputs(torch.zeros(2, 0, 4, 1), torch.ones(2), 0.04, 2, sound=hold_sound(segments))
    spans = torch.tensor([[[0.0, 0.25]]]).expand(2, 1, 2)
    answer = expert.answer(expert.pack(spec, inputs, torch.arange(2), spans))
    assert answer.numpy() == pytest.approx(fit.answer(features[:2]), abs=1e-3)
    scaled, (weight, bias) = fit.scaling.apply(torch.from_numpy(features)), fit.sharp_head()
    assert expert.head(torch.from_numpy(features)).argmax(1).tolist() == (
        (scaled @ weight + bias).argmax(1).tolist()
    )


def test_features_are_scaled_by_the_clips_alone_however_they_come(monkeypatch):
    features, targets = make()
    features[3, 5] = 1e6
    targets = replace(targets, copies=np.arange(40))
    copies = 100.0 * features[:40]
    whole = fit_scaled(lambda: iter([features, copies]), targets)
    assert whole.scaling.mean.numpy() == pytest.approx(features.mean(0), rel=1e-5)
    assert whole.scaling.deviation.numpy() == pytest.approx(features.std(0), rel=1e-5)
    monkeypatch.setattr(heads, "MOST_IN_MEMORY", 10)
    blocks = [features[:70], features[70:], copies]
    summed = fit_scaled(lambda: iter(blocks), targets)
    assert summed.scaling.mean.numpy() == pytest.approx(whole.scaling.mean.numpy(), rel=1e-6)
    scaled = whole.scaling.apply_rows(np.concatenate([features, copies]))
    every = targets.with_copies()
    problem = RidgeProblem(scaled, every.rows, weights=every.weights)
    exact = problem.fit(summed.penalty * len(every.rows) / every.weights.sum())
    assert summed.head.weights == pytest.approx(exact.weights, abs=1e-6)
    assert summed.answer(copies).argmax(1).tolist() == (
        exact.predict(scaled[CLIPS:]).argmax(1).tolist()
    )
    assert whole.answer(features) == pytest.approx(
        replace(whole, scaling=None).answer(scaled[:CLIPS]), abs=1e-9
    )


def peak_kb():
    """Return the most memory that this program held; getrusage would tell its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def grow_by_fitting(folder):
    """Fit a head to blocks in a folder; return features in MB, and by how much memory grew."""
    keys = sorted(path.name for path in Path(folder).iterdir())
    examples = tuple(Example(key, "train", ("a",)) for key in keys)
    counts = np.full(len(keys), BLOCK_ROWS)
    features = Features(Path(folder), examples, counts, tuple(keys), ("",) * len(keys), ())
    owners = features.owners
    rows = np.eye(2)[owners % 2]
    targets = Targets(rows, owners % 5, np.ones(len(rows), dtype=bool), ONE)
    table = next(features.blocks(SPEC))
    few = targets.pick(np.arange(len(table)))
    fit_head_from_blocks(lambda: iter([table]), replace(few, groups=np.arange(len(table)) % 5))
    before = peak_kb()
    fit = fit_either(partial(features.blocks, SPEC), targets)
    grown = peak_kb() - before
    assert fit.problem is None
    assert (fit.held_out.argmax(1) == owners % 2).mean() > 0.9
    return table.nbytes * len(keys) / 2**20, grown / 1024


def test_a_set_larger_than_memory_is_fitted_within_a_bound(tmp_path):
    rng = np.random.default_rng(0)
    for kind in range(2):
        block = rng.normal(size=(BLOCK_ROWS, 256)) + 0.3 * kind
        first = feature_file(tmp_path / f"{kind:03d}", SPEC, "whole")
        first.parent.mkdir()
        np.save(first, block.astype(np.float16))
        for place in range(2 + kind, 40, 2):  # the same again: only how much there is matters
            again = feature_file(tmp_path / f"{place:03d}", SPEC, "whole")
            again.parent.mkdir()
            os.link(first, again)
    call = f"print(*test_heads.grow_by_fitting({str(tmp_path)!r}))"
    command = [sys.executable, "-c", f"from tests.training import test_heads; {call}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    features_mb, grown_mb = map(float, done.stdout.split())
    assert features_mb == 160.0
    assert 0.0 < grown_mb < 0.5 * features_mb
