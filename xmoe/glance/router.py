"""Saliency, stem features and recording conditions -> which experts, and how many.

Where the experts look is decided in ``spans`` from the same saliency. All evidence is detached: the
router learns to read the stem without changing it. ``count`` predicts, for each k from 0 to K_max,
the probability that an answer by the best k experts is right (its promise); K is the k with the
highest promise minus a price per expert. The price is set on validation for the user's budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmoe.base.config import ModelConfig, RouterEvidence
from xmoe.glance.evidence import NUM_CONCENTRATIONS, NUM_CONDITIONS, measure_evidence

HIDDEN = 64
# Weight of the stem beside the experts of a gate.
STEM_SHARE = 1.0 / 3.0


@dataclass(frozen=True)
class Routing:
    """Gate and promises of a batch.

    ``gate_logits`` [B, E], -inf for masked experts; ``promises`` [B, K_max + 1] in [0, 1].
    """

    gate_logits: Tensor
    promises: Tensor

    @property
    def gate(self) -> Tensor:
        """Gate probabilities [B, E]; zero for masked experts."""
        return torch.softmax(self.gate_logits, 1)


def choose_counts(
    promises: Tensor, k_price: float, k_max: int | None = None, *, costs_ms: Sequence[float] = ()
) -> Tensor:
    """K [B]: the k with the best promise minus ``k_price`` per expert, the smallest of equals.

    ``promises`` [B, K_max + 1]; ``k_max`` bounds K further. If the experts' ``costs_ms`` are given,
    in the order in which they are asked, the price is per millisecond.
    """
    within = promises if k_max is None else promises[:, : k_max + 1]
    return (within - k_price * count_costs(within.shape[1], costs_ms, within.device)).argmax(1)


def count_costs(depths: int, costs_ms: Sequence[float], device: torch.device) -> Tensor:
    """Cost of 0, 1, ... experts [depths]: milliseconds if known, else their number."""
    if not costs_ms:
        return torch.arange(depths, device=device)
    return torch.tensor([0.0, *costs_ms], device=device).cumsum(0)[:depths]


class Router(nn.Module):
    """Evidence -> gate over experts and promises over K."""

    log_prior: Tensor
    allowed: Tensor

    def __init__(self, config: ModelConfig, *, num_rows: int) -> None:
        super().__init__()
        self.evidence: tuple[RouterEvidence, ...] = config.router_evidence
        sizes = {
            "features": 2 * config.stem_channels,
            "saliency": config.stem_channels + num_rows + NUM_CONCENTRATIONS + 2,
            "belief": config.num_classes + 2,
            "conditions": NUM_CONDITIONS,
        }
        width = sum(sizes[kind] for kind in self.evidence)
        self.normalise = nn.BatchNorm1d(width)
        self.gate = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(config.experts))
        )
        self.count = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, config.k_max + 1)
        )
        prior = torch.tensor([config.expert_priors.get(name, 1.0) for name in config.expert_names])
        masked = [name in config.masked_experts for name in config.expert_names]
        self.register_buffer("log_prior", prior.log(), persistent=False)
        self.register_buffer("allowed", ~torch.tensor(masked), persistent=False)

    def measure_evidence(
        self, *, features: Tensor, cells: Tensor, belief: Tensor, spec: Tensor
    ) -> Tensor:
        """Evidence [B, .] from the stem map, saliency cells, belief and spectrograms."""
        parts = [
            measure_evidence(kind, features=features, cells=cells, belief=belief, spec=spec)
            for kind in self.evidence
        ]
        return torch.cat(parts, 1)

    needed_evidence = measure_evidence  # a gate reads all of it

    def forward(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Gate logits [B, E] (-inf if masked) and promise logits [B, K_max + 1]."""
        normalised = self.normalise(evidence)
        gate = self.gate(normalised) + self.log_prior
        return gate.masked_fill(~self.allowed, float("-inf")), self.count(normalised)
