"""Rank correlation agrees with scipy's, ties and all; what a third map explains is taken out."""

import pytest
import torch
from scipy.stats import rankdata, spearmanr

from xmoe.explain.ranks import rank, rank_correlation


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


def test_what_a_common_cause_explains_is_taken_out():
    generator = torch.Generator().manual_seed(0)
    cause, a, b = torch.randn(3, 40, 40, generator=generator)
    one, other = cause + 0.3 * a, cause + 0.3 * b
    assert rank_correlation(one, other) > 0.8
    assert abs(rank_correlation(one, other, [cause])) < 0.1
