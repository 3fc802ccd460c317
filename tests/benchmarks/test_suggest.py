"""The measure of what labels are worth: a pool that is mostly one sound, and rare ones in it."""

import numpy as np
import pytest

from benchmarks.suggest import CHOICES, answer, follow


@pytest.fixture(scope="module")
def sound():
    """Features [n, D] of three classes, of which one has most of the pool; a balanced test set."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2, 0, 1, 2], (80, 12, 12, 20, 20, 20))
    features = 1.5 * np.eye(3)[targets] @ rng.standard_normal((3, 40))
    features += rng.standard_normal(features.shape)
    return features, targets, np.arange(104), np.arange(104, 164)


def test_answers_are_log_probabilities_of_what_was_labelled(sound):
    features, targets, pool, test = sound
    logits = answer(features, targets, pool, test)
    np.testing.assert_allclose(np.exp(logits).sum(1), 1.0)
    assert (logits.argmax(1) == targets[test]).mean() > 0.9


@pytest.mark.parametrize("name", CHOICES)
def test_more_labels_are_followed_and_help(sound, name):
    scores = np.mean([follow(CHOICES[name], sound, 6, 4, seed) for seed in range(3)], axis=0)
    assert len(scores) == 5
    assert scores[-1] > scores[0]
