"""A router fitted to answers with a known best choice finds it, if it is fed what tells."""

import pytest
import torch

from xmoe.ablation.arms import ARMS
from xmoe.ablation.heads import ArmRouter, decide_by, decide_jointly, fit_arm
from xmoe.glance.router import Router
from xmoe.mixture.moe import MoE

STEPS = 100


def top_expert(arm, observed, unseen, config):
    router = fit_arm(ARMS[arm], observed, config, steps=STEPS)
    return decide_by(router, ARMS[arm], unseen, seed=5).gate_logits.argmax(1)


def test_the_networks_are_those_of_the_router(config):
    mine = ArmRouter(ARMS["saliency"], config, gate_width=7, count_width=7)
    theirs = Router(config.model, num_rows=4)
    for own, other in ((mine.gate, theirs.gate), (mine.count, theirs.count)):
        shapes = [tuple(p.shape) for p in own.map.parameters()][1:]
        assert shapes == [tuple(p.shape) for p in other.parameters()][1:]
    assert isinstance(mine.gate.normalise, type(theirs.normalise))


def test_fed_saliency_the_gate_finds_the_right_expert(observed, unseen, config):
    chosen = top_expert("saliency", observed, unseen, config)
    known = (unseen.evidence["saliency"][:, 0] <= 0).long()
    assert (chosen == known).float().mean() > 0.9


@pytest.mark.parametrize("arm", ["features", "shuffled", "no_saliency"])
def test_without_it_the_gate_guesses(arm, observed, unseen, config):
    chosen = top_expert(arm, observed, unseen, config)
    known = (unseen.evidence["saliency"][:, 0] <= 0).long()
    assert (chosen == known).float().mean() < 0.65


def test_the_same_order_is_the_same_for_every_clip(observed, unseen, config):
    assert len(set(top_expert("same_order", observed, unseen, config).tolist())) == 1


def test_experts_by_chance_are_uniform_over_those_allowed(unseen, config):
    arm = ARMS["random_experts"]
    router = ArmRouter(arm, config, gate_width=12, count_width=12).eval()
    draws = [decide_by(router, arm, unseen, seed=seed).gate_logits for seed in range(10)]
    counts = torch.bincount(torch.cat(draws).argmax(1), minlength=4)
    assert counts[2] == 0  # masked
    shares = counts[[0, 1, 3]] / counts.sum()
    assert shares.min() > 0.30
    assert shares.max() < 0.37
    weights = torch.softmax(draws[0], 1)[:, [0, 1, 3]]
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3), atol=1e-3, rtol=0)
    assert not torch.equal(draws[0], draws[1])


def test_a_masked_expert_is_never_named(observed, unseen, config):
    for name in ("saliency", "random_experts"):
        router = fit_arm(ARMS[name], observed, config, steps=3)
        decisions = decide_by(router, ARMS[name], unseen, seed=0)
        assert torch.isinf(decisions.gate_logits[:, 2]).all()
        assert torch.isfinite(decisions.gate_logits[:, [0, 1, 3]]).all()


def test_the_count_head_promises_more_where_the_stem_is_right(observed, unseen, config):
    arm = ARMS["entropy_k"]
    router = fit_arm(arm, observed, config, steps=STEPS)
    stem = decide_by(router, arm, unseen, seed=0).promises[:, 0]
    trusted = unseen.evidence["entropy"][:, 0] > 0.5
    assert stem[trusted].min() > stem[~trusted].max() + 0.5


def test_the_same_gate_evidence_gives_the_same_gate(observed, unseen, config):
    gates = []
    for name in ("saliency", "entropy_k", "blind_k"):
        router = fit_arm(ARMS[name], observed, config, steps=40)
        gates.append(decide_by(router, ARMS[name], unseen, seed=0).gate_logits)
    torch.testing.assert_close(gates[0], gates[1], rtol=0, atol=0)
    torch.testing.assert_close(gates[0], gates[2], rtol=0, atol=0)


def test_the_same_seed_gives_the_same_router(observed, unseen, config):
    one, other = (
        decide_by(
            fit_arm(ARMS["shuffled"], observed, config, steps=20), ARMS["shuffled"], unseen, seed=0
        )
        for _ in range(2)
    )
    assert torch.equal(one.gate_logits, other.gate_logits)
    assert torch.equal(one.promises, other.promises)


def test_the_joint_router_is_asked_as_it_is(unseen, config):
    torch.manual_seed(0)
    model = MoE(config.model, config.spectro).eval()
    widths = {"features": 48, "saliency": 24 + 4 + 6, "belief": 4, "conditions": 8}
    evidence = {kind: torch.randn(len(unseen), width) for kind, width in widths.items()}
    seen = type(unseen)(**{**vars(unseen), "evidence": evidence})
    decisions = decide_jointly(model, seen)
    gate, promised = model.router(torch.cat(list(evidence.values()), 1))
    assert torch.equal(decisions.gate_logits, gate)
    torch.testing.assert_close(decisions.promises, torch.sigmoid(promised))
