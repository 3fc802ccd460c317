"""The head: what numpy makes of the same numbers, and no feature that speaks for all."""

import numpy as np
import pytest
import torch

from xmoe.experts.head import REACH, LinearHead, Scaling

D, C = 6, 3


@pytest.fixture
def scaling():
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=D), rng.uniform(0.5, 2.0, D)
    return Scaling(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())


def test_features_are_limited_and_divided_by_the_root_of_their_length(scaling):
    features = np.random.default_rng(1).normal(scale=3.0, size=(5, D)).astype(np.float32)
    expected = (features - scaling.mean.numpy()) / scaling.deviation.numpy()
    expected = expected.clip(-3.0, 3.0)
    assert (np.abs(expected) == 3.0).any()
    expected /= np.sqrt(np.linalg.norm(expected, axis=1, keepdims=True))
    assert scaling.apply_rows(features) == pytest.approx(expected, abs=1e-6)


def test_one_wild_number_says_no_more_than_three_deviations(scaling):
    usual = scaling.mean + 0.1 * scaling.deviation
    wild, wilder = usual.clone(), usual.clone()
    wild[2] += REACH * scaling.deviation[2]
    wilder[2] = 1e9
    assert torch.allclose(scaling.apply(wild[None]), scaling.apply(wilder[None]))


def test_a_clip_of_only_means_is_no_evidence(scaling):
    assert scaling.apply(scaling.mean[None]).tolist() == [[0.0] * D]


@pytest.mark.parametrize("exclusive", [True, False])
def test_logits_are_linear_in_them(scaling, exclusive):
    head = LinearHead(D, C, exclusive=exclusive)
    rng = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(D, C, generator=rng), torch.randn(C, generator=rng)
    head.fill(scaling, weight, bias)
    features = torch.randn(4, D, generator=rng)
    scores = scaling.apply(features) @ weight + bias
    expected = scores.log_softmax(1) if exclusive else scores
    assert torch.allclose(head(features), expected)
    assert sorted(head.state_dict()) == ["bias", "deviation", "mean", "weight"]
