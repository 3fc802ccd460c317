"""Correlations of ranks and of values agree with scipy's, ties and all."""

import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr

from xmoe.explain.ranks import correlation, rank, rank_correlation


def test_ranks_share_their_mean_where_cells_are_alike():
    values = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    assert rank(values).tolist() == rankdata(values.flatten().numpy()).tolist()


def test_correlation_is_spearmans():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(8, 9, generator=generator)
    other = (one + torch.randn(8, 9, generator=generator)).relu()  # half of it ties
    expected = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert rank_correlation(one, other) == pytest.approx(float(expected), abs=1e-9)


def test_a_flat_map_is_like_nothing():
    assert rank_correlation(torch.zeros(4, 5), torch.rand(4, 5)) == 0.0


def test_correlation_of_values_is_pearsons():
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.randn(2, 8, 9, generator=generator)
    expected = pearsonr(one.flatten().numpy(), (one + noise).flatten().numpy()).statistic
    assert correlation(one, one + noise) == pytest.approx(float(expected), abs=1e-6)
    assert correlation(one, torch.ones(8, 9)) == 0.0
