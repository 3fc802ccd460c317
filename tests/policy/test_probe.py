"""The baseline: right answers on separable spectrograms, probabilities that mean something."""

import numpy as np
import pytest
import torch

from xmoe.base.task import MultiLabel, SingleLabel
from xmoe.policy import probe
from xmoe.policy.probe import baseline_probabilities

ONE = SingleLabel()


def band_specs(labels, *, seed=0, frames=(20, 30)):
    """Return noise [16, T] with the rows of its class louder: class c has rows 4 c to 4 c + 3."""
    generator = torch.Generator().manual_seed(seed)
    specs = []
    for index, label in enumerate(labels):
        spec = torch.randn(16, frames[index % len(frames)], generator=generator)
        for one in np.atleast_1d(label):
            spec[4 * one : 4 * one + 4] += 1.5
        specs.append(spec)
    return specs


def test_separable_classes_are_told_apart():
    train, test = np.arange(60) % 3, np.arange(30) % 3
    answers = baseline_probabilities(
        band_specs(train), train, band_specs(test, seed=1), task=ONE, num_classes=3
    )
    assert answers.shape == (30, 3)
    assert answers.sum(axis=1) == pytest.approx(1.0)
    assert (answers.argmax(axis=1) == test).mean() == 1.0
    assert answers[np.arange(30), test].mean() > 0.8


def test_labels_at_random_give_humble_probabilities():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 2, 80)
    silent = np.zeros(80, dtype=int)
    answers = baseline_probabilities(
        band_specs(silent),
        train,
        band_specs(silent[:20], seed=1),
        task=ONE,
        num_classes=2,
    )
    assert answers.max() < 0.8


def test_several_labels_each_have_their_own_probability():
    labels = [[0], [1], [0, 1], [2]] * 15
    rows = np.zeros((60, 3), dtype=np.float32)
    for row, own in zip(rows, labels, strict=True):
        row[own] = 1.0
    answers = baseline_probabilities(
        band_specs(labels), rows, band_specs(labels[:8], seed=2), task=MultiLabel(), num_classes=3
    )
    assert ((answers > 0.5) == (rows[:8] > 0.5)).mean() > 0.9
    assert answers[2].sum() > 1.2


def test_classes_without_a_training_clip_get_a_column():
    train = np.arange(20) % 2
    answers = baseline_probabilities(
        band_specs(train), train, band_specs([0], seed=1), task=ONE, num_classes=4
    )
    assert answers.shape == (1, 4)
    assert answers[0].argmax() == 0


def test_same_seed_same_bytes():
    train = np.arange(24) % 2
    first, second = (
        baseline_probabilities(
            band_specs(train), train, band_specs([0, 1]), task=ONE, num_classes=2, seed=4
        )
        for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


def test_no_test_clips_no_answers():
    train = np.arange(12) % 2
    answers = baseline_probabilities(band_specs(train), train, [], task=ONE, num_classes=2)
    assert answers.shape == (0, 2)


def test_large_sets_use_a_part_of_the_clips(monkeypatch):
    monkeypatch.setattr(probe, "MOST_CLIPS", 20)
    monkeypatch.setattr(probe, "MANY_CLIPS", 10)
    train = np.arange(40) % 2
    answers = baseline_probabilities(
        band_specs(train), train, band_specs([0, 1]), task=ONE, num_classes=2
    )
    assert answers.argmax(axis=1).tolist() == [0, 1]
