"""What an arm may read: the router's own numbers, and others with a known answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.mixtures import cnn_specs
from xmoe.ablation.evidence import (
    KINDS,
    OWN,
    derange,
    describe_where,
    gather_kinds,
    pool_by_band,
)
from xmoe.base.config import ModelConfig, SpectroConfig
from xmoe.mixture.moe import MoE


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = ModelConfig(
        num_classes=3, experts=cnn_specs("broadband", "low", "high"), window_frames=2
    )
    return MoE(config, SpectroConfig(num_bins=16)).eval()


def test_own_kinds_are_what_the_router_reads(model):
    spec = torch.randn(5, 16, 24)
    glance = model.glance(spec)
    kinds = gather_kinds(model, glance, spec)
    assert set(kinds) == set(KINDS)
    mine = torch.cat([kinds[kind] for kind in OWN], 1)
    theirs = model.router.gather_evidence(
        features=glance.stem.features,
        cells=glance.cells,
        belief=model.task.belief(glance.stem.logits),
        spec=spec,
    )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert all(torch.isfinite(value).all() for value in kinds.values())


def test_where_finds_the_band_the_window_and_the_peak():
    cells = torch.zeros(1, 4, 8)
    cells[0, 3, 4:6] = 1.0
    bands = torch.tensor([[1.0, 1, 1, 1], [1.0, 1, 0, 0], [0.0, 0, 1, 1]])
    where = describe_where(cells, bands, 2)[0]
    assert where[:3].tolist() == [1.0, 0.0, 1.0]  # share in the band
    assert where[3:6].tolist() == [1.0, 0.0, 1.0]  # share of that in the best window
    row, column, mean, spread, duration = where[6:].tolist()
    assert row == 1.0
    assert column == pytest.approx(4 / 7)
    assert mean == 1.0
    assert spread == 0.0
    assert duration == pytest.approx(0.5 / 7)


def test_pooling_by_band_reads_salient_cells_only():
    features = torch.arange(2 * 8 * 3, dtype=torch.float32).view(1, 2, 8, 3)
    cells = torch.zeros(1, 8, 3)
    cells[0, 2, 1] = 5.0
    pooled = pool_by_band(features, cells).view(2, 4)
    assert pooled[:, 1].tolist() == features[0, :, 2, 1].tolist()
    assert pooled[:, [0, 2, 3]].abs().max() == 0.0
    plain = pool_by_band(features, torch.ones_like(cells)).view(2, 4)
    torch.testing.assert_close(plain, features.view(2, 4, 6).mean(2))


def test_rivals_are_for_the_first_class_or_against_it(model):
    spec = torch.randn(4, 16, 24)
    rivals = gather_kinds(model, model.glance(spec), spec)["rivals"]
    rows = model.stem.num_rows
    assert rivals.shape == (4, 2 * rows + 1)
    torch.testing.assert_close(rivals[:, :-1].sum(1), torch.ones(4))
    assert (rivals[:, :-1] >= 0).all()


@given(owners=st.lists(st.integers(0, 12), min_size=2, max_size=60), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_shuffled_evidence_is_that_of_another_clip(owners, seed):
    owner = torch.tensor(owners)
    generator = torch.Generator().manual_seed(seed)
    most = max(owners.count(name) for name in owners)
    if 2 * most > len(owners):
        with pytest.raises(ValueError, match="cannot be exchanged"):
            derange(owner, generator=generator)
        return
    partner = derange(owner, generator=generator)
    assert sorted(partner.tolist()) == list(range(len(owners)))
    assert (owner[partner] != owner).all()


def test_another_seed_shuffles_otherwise():
    owner = torch.arange(50)
    one, other = (derange(owner, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(one, other)
