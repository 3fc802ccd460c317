"""What is observed of a mixture is what the mixture itself says."""

import pytest
import torch

from tests.fixtures.mixtures import carry_out
from xmoe.ablation.evidence import KINDS
from xmoe.ablation.observe import (
    answer_all,
    load_observed,
    merge_clips,
    observe_clips,
    save_observed,
)
from xmoe.base.config import RoutingConfig
from xmoe.features.segments import Segments
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import choose_experts


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return MoE(config.model, config.spectro).eval()


def test_observed_answers_blend_to_those_of_the_model(model):
    spec = torch.randn(6, 16, 40)
    segments = Segments(spec, torch.arange(6))
    seen = observe_clips(model, segments, torch.eye(2)[torch.arange(6) % 2])
    assert set(seen.evidence) == set(KINDS)
    gate = model.glance(spec).gate_logits
    mine = blend(seen.stem, seen.full, choose_experts(gate, torch.full((6,), 2)))
    theirs = carry_out(model, spec, RoutingConfig(), k=2).logits
    torch.testing.assert_close(mine, theirs)


def test_a_masked_expert_says_nothing(model):
    _, logits = answer_all(model, torch.randn(2, 16, 40), RoutingConfig())
    assert logits[2].abs().max() == 0.0
    assert logits[[0, 1, 3]].abs().amax((1, 2)).min() > 0.0


def test_windows_change_what_experts_hear(model):
    spec = torch.randn(3, 16, 64)
    whole = answer_all(model, spec, RoutingConfig())[1]
    part = answer_all(model, spec, RoutingConfig(window_fraction=0.25))[1]
    assert not torch.allclose(whole, part)


def test_an_observation_comes_back_from_disk(unseen, tmp_path):
    path = tmp_path / "deep" / "val.safetensors"
    save_observed(path, unseen)
    read = load_observed(path)
    for name in ("stem", "full", "part", "owner", "targets"):
        assert torch.equal(getattr(read, name), getattr(unseen, name))
    assert set(read.evidence) == set(unseen.evidence)
    assert torch.equal(read.evidence["saliency"], unseen.evidence["saliency"])


def test_copies_are_clips_of_their_own(unseen):
    both = merge_clips([unseen, unseen])
    assert len(both) == 2 * len(unseen)
    assert both.owner.max() == 2 * len(unseen.targets) - 1
    assert both.full.shape[1] == len(both)
