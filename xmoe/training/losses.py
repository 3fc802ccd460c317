"""Training outputs + targets -> one loss.

The stem learns to answer alone, every expert learns to answer alone, and the mixture learns to
answer as a whole, as any random subset, and on any part of the map. That is what makes a dead, slow
or masked expert harmless and lets the share of windows be chosen after training. Targets are soft
[B, C] (label smoothing, mixup, or several labels). There is no load-balancing loss: prototypes
showed no need of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.base.config import ModelConfig
from xmoe.base.task import Task, task_of
from xmoe.glance.spans import num_windows, windows_kept
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import TrainingDraws, TrainingOutput
from xmoe.mixture.plan import choose_experts

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
STEM_WEIGHT = 0.5
EXPERT_WEIGHT = 0.5
COUNT_WEIGHT = 0.3
SUBSET_MAX = 4  # experts of a random subset


@dataclass(frozen=True)
class Losses:
    """The total that is minimised, its parts, and the logits of the subset mixture [B, C]."""

    total: Tensor
    parts: dict[str, Tensor]
    logits: Tensor


def draw_step(
    config: ModelConfig, *, batch: int, columns: int, generator: torch.Generator
) -> TrainingDraws:
    """Draw what one training step leaves to chance: how many windows, and noise on their ranking.

    Half of the clips rank their windows nearly by chance, half nearly by saliency.
    """
    total = num_windows(columns, config.window_frames)
    pick = int(torch.randint(len(FRACTIONS), (1,), generator=generator))
    noise = torch.rand(batch, len(config.experts), total, generator=generator)
    strength = torch.where(torch.rand(batch, 1, 1, generator=generator) < 0.5, 3.0, 0.3)
    return TrainingDraws(windows_kept(total, FRACTIONS[pick]), noise * strength)


def draw_subsets(gate_logits: Tensor, *, generator: torch.Generator) -> Tensor:
    """Weights [B, E] of a random subset of 1..4 experts per clip.

    Half of the clips draw experts at random, half by the gate with Gumbel noise. Weights come from
    the gate, so it learns from both.
    """
    batch, experts = gate_logits.shape
    device = gate_logits.device
    uniform = torch.rand(batch, experts, generator=generator).clamp(1e-6, 1 - 1e-6).to(device)
    gumbel = -torch.log(-torch.log(uniform))
    by_gate = (torch.rand(batch, 1, generator=generator) < 0.5).to(device)
    allowed = torch.isfinite(gate_logits)
    base = torch.where(by_gate, gate_logits.detach(), torch.zeros_like(gate_logits))
    ranking = (base + gumbel).masked_fill(~allowed, float("-inf"))
    k = torch.randint(1, SUBSET_MAX + 1, (batch, 1), generator=generator).to(device)
    rank = ranking.argsort(1, descending=True).argsort(1)
    chosen = (rank < k) & allowed
    return torch.softmax(gate_logits.masked_fill(~chosen, float("-inf")), 1)


def count_targets(
    output: TrainingOutput, logits: Tensor, targets: Tensor, *, k_max: int, task: Task
) -> Tensor:
    """How right the best k experts by gate are, [B, K_max + 1] for k = 0..K_max."""
    columns = []
    for k in range(k_max + 1):
        count = torch.full((targets.shape[0],), k, device=targets.device)
        mixed = blend(output.stem, logits, choose_experts(output.gate, count))
        columns.append(task.rightness(mixed, targets).float())
    return torch.stack(columns, 1)


def compute_losses(
    output: TrainingOutput, targets: Tensor, config: ModelConfig, *, generator: torch.Generator
) -> Losses:
    """Losses of one step for soft targets [B, C]."""
    task = task_of(config.task)
    allowed = torch.isfinite(output.gate[0])
    subset = draw_subsets(output.gate, generator=generator)
    mixed_part = blend(output.stem, output.part, subset)
    mixed_full = blend(output.stem, output.full, torch.softmax(output.gate, 1))
    alone = torch.cat([output.full[allowed], output.part[allowed]])

    def loss(logits: Tensor) -> Tensor:
        return task.loss(logits, targets.expand(logits.shape))

    with torch.no_grad():
        promised = count_targets(output, output.part, targets, k_max=config.k_max, task=task)
    parts = {
        "mixture": loss(mixed_full),
        "subset": loss(mixed_part),
        "expert": EXPERT_WEIGHT * loss(alone),
        "stem": STEM_WEIGHT * loss(output.stem),
        "count": COUNT_WEIGHT * F.binary_cross_entropy_with_logits(output.count, promised),
    }
    return Losses(torch.stack(list(parts.values())).sum(), parts, mixed_full)
