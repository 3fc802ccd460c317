"""Arms differ in what they feed, and in nothing else."""

import pytest
import torch

from xmoe.ablation.arms import ARMS, DESIGNED, REFERENCE, feed, find_arms
from xmoe.base.errors import ConfigError


def test_the_questions_of_the_study_are_there():
    asked = {"saliency", "features", "shuffled", "random_experts", "entropy_k"}
    assert asked <= set(ARMS)


def test_the_reference_is_always_the_first():
    assert [arm.name for arm in find_arms(("features", "saliency"))] == ["saliency", "features"]
    assert [arm.name for arm in find_arms(())] == [REFERENCE]


def test_unknown_arm_is_refused_by_name():
    with pytest.raises(ConfigError, match="no arm is called magic"):
        find_arms(("features", "magic"))


def test_as_designed_reads_everything_that_the_router_reads(observed):
    gate, count = feed(ARMS["saliency"], observed, seed=0)
    both = torch.cat([observed.evidence[kind] for kind in DESIGNED], 1)
    assert torch.equal(gate, both)
    assert torch.equal(count, both)


def test_features_only_reads_features_only(observed):
    gate, count = feed(ARMS["features"], observed, seed=0)
    assert torch.equal(gate, observed.evidence["features"])
    assert torch.equal(count, observed.evidence["features"])


def test_without_saliency_is_as_designed_without_saliency(observed):
    gate, _ = feed(ARMS["no_saliency"], observed, seed=0)
    designed, _ = feed(ARMS["saliency"], observed, seed=0)
    width = observed.evidence["saliency"].shape[1]
    assert gate.shape[1] == designed.shape[1] - width


def test_shuffling_moves_the_saliency_and_nothing_else(observed):
    designed, _ = feed(ARMS["saliency"], observed, seed=0)
    shuffled, _ = feed(ARMS["shuffled"], observed, seed=0)
    assert shuffled.shape == designed.shape
    first = observed.evidence["features"].shape[1]
    last = first + observed.evidence["saliency"].shape[1]
    moved = (shuffled != designed).any(0)
    assert moved[first:last].all()
    assert not moved[:first].any()
    assert not moved[last:].any()
    rows = (shuffled[:, first:last] == designed[:, first:last]).all(1)
    assert not rows.any()
    torch.testing.assert_close(
        shuffled[:, first:last].sort(0).values, designed[:, first:last].sort(0).values
    )


def test_entropy_decides_k_and_leaves_the_gate_alone(observed):
    gate, count = feed(ARMS["entropy_k"], observed, seed=0)
    assert torch.equal(gate, feed(ARMS["saliency"], observed, seed=0)[0])
    assert torch.equal(count, observed.evidence["entropy"])


def test_the_same_order_reads_nothing(observed):
    gate, _ = feed(ARMS["same_order"], observed, seed=0)
    assert gate.abs().max() == 0.0
