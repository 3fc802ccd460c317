"""Evidence of an arm -> a gate and promises over K, fitted to observed answers.

The two networks are those of ``xmoe.glance.router`` and so are their losses, their optimiser and
its schedule. Only what they read may differ between gate and count head, so each normalises its own
evidence. Both start from the seed of the run and see the same rows in the same order in every arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from xmoe.ablation.arms import Arm, feed
from xmoe.ablation.observe import Observed
from xmoe.base.config import RunConfig
from xmoe.glance.router import HIDDEN, Router
from xmoe.mixture.moe import MoE, TrainingOutput
from xmoe.training.loop import MAX_GRAD_NORM, one_cycle, warm_average
from xmoe.training.losses import compute_losses

CHANCE = 1e-3
ROUTER_BATCH = 128


@dataclass(frozen=True)
class Decisions:
    """What a router says of n segments: ``gate_logits`` [n, E], ``promises`` [n, K_max + 1]."""

    gate_logits: Tensor
    promises: Tensor


class Head(nn.Module):
    """Evidence [n, width] -> numbers [n, out], as either network of the router does."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(width)
        self.map = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out))

    def forward(self, evidence: Tensor) -> Tensor:
        """Return the numbers of normalised evidence."""
        mapped: Tensor = self.map(self.normalise(evidence))
        return mapped


class ArmRouter(nn.Module):
    """Gate and count head of one arm; experts that the run masks are never named."""

    log_prior: Tensor
    allowed: Tensor

    def __init__(self, arm: Arm, config: RunConfig, *, gate_width: int, count_width: int) -> None:
        super().__init__()
        model = config.model
        self.chance = arm.choice == "random"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            self.gate = Head(gate_width, len(model.experts))
            torch.manual_seed(config.train.seed + 1)
            self.count = Head(count_width, model.k_max + 1)
        prior = torch.tensor([model.expert_priors.get(name, 1.0) for name in model.expert_names])
        masked = [name in model.masked_experts for name in model.expert_names]
        self.register_buffer("log_prior", prior.log(), persistent=False)
        self.register_buffer("allowed", ~torch.tensor(masked), persistent=False)

    def forward(
        self, gate: Tensor, count: Tensor, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return gate logits [n, E], -inf where masked, and promise logits [n, K_max + 1].

        Experts by chance have logits of nearly nothing: any ranking, and equal weights.
        """
        if self.chance:
            shape = (len(gate), len(self.allowed))
            logits = CHANCE * torch.rand(shape, generator=generator)
        else:
            logits = self.gate(gate) + self.log_prior
        return logits.masked_fill(~self.allowed, float("-inf")), self.count(count)


def fit_arm(arm: Arm, observed: Observed, config: RunConfig, *, steps: int) -> ArmRouter:
    """Return the router of an arm, fitted for ``steps`` batches.

    They are larger than those of the mixture: two small networks cost what a step costs, not a row.
    """
    gate, count = feed(arm, observed, seed=config.train.seed)
    router = ArmRouter(arm, config, gate_width=gate.shape[1], count_width=count.shape[1])
    average = AveragedModel(
        router, multi_avg_fn=warm_average(config.train.ema_decay), use_buffers=True
    )
    train, size = config.train, min(ROUTER_BATCH, len(observed))
    optimizer = torch.optim.AdamW(
        router.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay
    )
    order, chance = (torch.Generator().manual_seed(train.seed + i) for i in (2, 3))
    rows = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(rows) < size:
            rows = torch.randperm(len(observed), generator=order)
        picked, rows = rows[:size], rows[size:]
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, steps) * train.learning_rate
        gate_logits, promised = router(gate[picked], count[picked], generator=chance)
        output = TrainingOutput(
            stem=observed.stem[picked],
            full=observed.full[:, picked],
            part=observed.part[:, picked],
            gate=gate_logits,
            count=promised,
        )
        losses = compute_losses(output, observed.targets[picked], config.model, generator=chance)
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        for head in (router.gate, router.count):
            nn.utils.clip_grad_norm_(head.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        average.update_parameters(router)
    fitted = average.module
    assert isinstance(fitted, ArmRouter)
    return fitted.eval()


@torch.no_grad()
def decide_by(router: ArmRouter, arm: Arm, observed: Observed, *, seed: int) -> Decisions:
    """Return what a fitted arm decides on an observation; ``seed`` fixes what it leaves to chance.

    A masked expert's gate is -inf.
    """
    gate, count = feed(arm, observed, seed=seed)
    chance = torch.Generator().manual_seed(seed)
    logits, promised = router(gate, count, generator=chance)
    return Decisions(logits, torch.sigmoid(promised))


@torch.no_grad()
def decide_jointly(model: MoE, observed: Observed) -> Decisions:
    """Return what the router that was trained with its experts decides."""
    assert isinstance(model.router, Router), "the ablation is of routers that gradients trained"
    kinds = model.router.evidence
    evidence = torch.cat([observed.evidence[kind] for kind in kinds], 1)
    logits, promised = model.router(evidence)
    return Decisions(logits, torch.sigmoid(promised))
