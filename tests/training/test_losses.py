"""Losses: every part learns, masked experts do not, and targets equal slow counts."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig
from xmoe.base.task import TASKS, SingleLabel
from xmoe.glance.spans import windows_kept
from xmoe.mixture.moe import MoE, TrainingOutput
from xmoe.training.losses import (
    FRACTIONS,
    compute_losses,
    count_targets,
    draw_step,
    draw_subsets,
)

PARTS = ["mixture", "subset", "expert", "stem", "count"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def targets_for(task: str, batch: int) -> Tensor:
    if task == "single_label":
        return F.one_hot(torch.arange(batch) % 3, 3).float() * 0.9 + 0.1 / 3
    return torch.randint(2, (batch, 3), generator=seeded(9)).float()


def train_once(model: MoE, specs: Tensor, seed: int = 0) -> tuple[TrainingOutput, dict, Tensor]:
    """Return output, parts and total of one step with gradients filled in."""
    model.zero_grad(set_to_none=True)
    draws = draw_step(model.config, batch=len(specs), columns=11, generator=seeded(seed))
    output = model(specs, draws)
    targets = targets_for(model.config.task, len(specs))
    losses = compute_losses(output, targets, model.config, generator=seeded(seed))
    losses.total.backward()
    return output, losses.parts, losses.total


def output_of(seed: int = 0, *, batch: int = 4, masked: int | None = None) -> TrainingOutput:
    """Return a training output of four experts, two of which may answer, made of noise."""
    generator = seeded(seed)
    gate = torch.randn(batch, 4, generator=generator)
    if masked is not None:
        gate[:, masked] = -math.inf
    return TrainingOutput(
        stem=torch.randn(batch, 3, generator=generator),
        full=torch.randn(4, batch, 3, generator=generator),
        part=torch.randn(4, batch, 3, generator=generator),
        gate=gate,
        count=torch.randn(batch, 3, generator=generator),
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_step_teaches_every_parameter(build, make_specs, task):
    model = build(task=task).train()
    _, parts, total = train_once(model, make_specs(8))
    assert list(parts) == PARTS
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)
    untaught = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert untaught == []


def test_masked_experts_learn_nothing(build, make_specs):
    model = build(masked_experts=("low",)).train()
    train_once(model, make_specs(8))
    taught = {
        name: any(p.grad is not None and p.grad.abs().max() > 0 for p in expert.parameters())
        for name, expert in model.experts.items()
    }
    assert taught == {"broadband": True, "low": False, "transient": True, "high_band": True}


def test_a_masked_experts_answers_change_no_loss():
    config = ModelConfig(
        num_classes=3, experts=cnn_specs("low", "high", "mid", "harmonic"), k_max=2
    )
    targets = targets_for("single_label", 4)
    plain, wild = output_of(masked=2), output_of(masked=2)
    wild.full[2], wild.part[2] = 1e4, -1e4
    totals = [
        compute_losses(output, targets, config, generator=seeded()).total
        for output in (plain, wild)
    ]
    assert torch.equal(*totals)


def test_router_losses_do_not_bend_the_stem(build, make_specs):
    model = build().train()
    draws = draw_step(model.config, batch=4, columns=11, generator=seeded())
    output = model(make_specs(4), draws)
    (output.count.sum() + output.gate.sum()).backward()
    assert all(parameter.grad is None for parameter in model.stem.parameters())
    assert model.router.gate[0].weight.grad.abs().max() > 0


def test_the_same_seed_draws_the_same_step_and_another_does_not(build, make_specs):
    model = build().train()
    with torch.random.fork_rng(devices=[]):
        totals = []
        for seed in (4, 4, 5):
            torch.manual_seed(0)
            totals.append(train_once(model, make_specs(8), seed)[2])
    assert torch.equal(totals[0], totals[1])
    assert not torch.equal(totals[0], totals[2])


def test_a_step_draws_every_fraction_and_two_strengths_of_noise():
    config = ModelConfig(experts=cnn_specs(), num_classes=3, window_frames=2)
    draws = [draw_step(config, batch=8, columns=64, generator=seeded(s)) for s in range(40)]
    assert {step.keep for step in draws} == {windows_kept(32, f) for f in FRACTIONS}
    assert {tuple(step.window_noise.shape) for step in draws} == {(8, 8, 32)}
    peaks = torch.cat([step.window_noise.amax((1, 2)) for step in draws])
    loud = peaks > 0.3
    assert float(peaks.max()) < 3.0
    assert float(loud.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(peaks[loud].min()) > 2.0


@pytest.mark.parametrize("seed", range(5))
def test_subsets_hold_one_to_four_allowed_experts_and_sum_to_one(seed):
    gate = torch.randn(64, 8, generator=seeded(seed))
    gate[:, 2] = -math.inf
    weights = draw_subsets(gate, generator=seeded(seed))
    chosen = weights > 0
    assert set(chosen.sum(1).tolist()) == {1, 2, 3, 4}
    assert not chosen[:, 2].any()
    torch.testing.assert_close(weights.sum(1), torch.ones(64))
    inside = torch.softmax(gate.masked_fill(~chosen, -math.inf), 1)
    torch.testing.assert_close(weights, inside)


def test_subsets_favour_the_gate_in_half_of_the_clips():
    gate = torch.zeros(4000, 8)
    gate[:, 5] = 50.0
    held = draw_subsets(gate, generator=seeded())[:, 5] > 0
    by_chance = (1 + 2 + 3 + 4) / 4 / 8
    assert float(held.float().mean()) == pytest.approx((1 + by_chance) / 2, abs=0.03)


def test_a_lone_expert_is_always_its_own_subset():
    gate = torch.randn(9, 1, generator=seeded())
    assert draw_subsets(gate, generator=seeded()).tolist() == [[1.0]] * 9


def test_subset_weights_teach_the_gate():
    gate = torch.randn(16, 4, generator=seeded(), requires_grad=True)
    draw_subsets(gate, generator=seeded()).square().sum().backward()
    assert torch.isfinite(gate.grad).all()
    assert gate.grad.abs().max() > 0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("masked", [None, 1])
def test_count_targets_equal_a_slow_loop(task, masked):
    output = output_of(5, batch=12, masked=masked)
    targets = targets_for(task.name, 12)
    got = count_targets(output, output.part, targets, k_max=3, task=task)
    assert got.shape == (12, 4)
    for clip in range(12):
        gate = output.gate[clip].tolist()
        order = sorted((e for e in range(4) if math.isfinite(gate[e])), key=lambda e: -gate[e])
        for k in range(4):
            mixed = output.stem[clip]
            if k:
                total = sum(math.exp(gate[e]) for e in order[:k])
                told = sum(math.exp(gate[e]) / total * output.part[e, clip] for e in order[:k])
                mixed = mixed / 3 + told * 2 / 3
            expected = task.rightness(mixed[None], targets[clip][None])
            assert float(got[clip, k]) == pytest.approx(float(expected))


def test_promises_learn_how_right_each_count_is(build):
    config = ModelConfig(
        num_classes=3, experts=cnn_specs("low", "high", "mid", "harmonic"), k_max=2
    )
    output, targets = output_of(2), targets_for("single_label", 4)
    parts = compute_losses(output, targets, config, generator=seeded()).parts
    promised = count_targets(output, output.part, targets, k_max=2, task=SingleLabel())
    sure = torch.where(promised > 0.5, 30.0, -30.0)
    told = TrainingOutput(output.stem, output.full, output.part, output.gate, sure)
    best = compute_losses(told, targets, config, generator=seeded()).parts
    assert float(best["count"]) < 1e-6 < float(parts["count"])
    assert torch.equal(best["mixture"], parts["mixture"])


def test_the_mixture_loss_is_that_of_all_experts_by_gate():
    config = ModelConfig(
        num_classes=3, experts=cnn_specs("low", "high", "mid", "harmonic"), k_max=2
    )
    output, targets = output_of(2), targets_for("single_label", 4)
    losses = compute_losses(output, targets, config, generator=seeded())
    told = (torch.softmax(output.gate, 1).T.unsqueeze(2) * output.full).sum(0)
    mixed = output.stem / 3 + told * 2 / 3
    torch.testing.assert_close(losses.logits, mixed)
    torch.testing.assert_close(losses.parts["mixture"], F.cross_entropy(mixed, targets))
    alone = torch.stack([F.cross_entropy(x, targets) for x in [*output.full, *output.part]])
    torch.testing.assert_close(losses.parts["expert"], 0.5 * alone.mean())
    torch.testing.assert_close(losses.parts["stem"], 0.5 * F.cross_entropy(output.stem, targets))
