"""Spectrogram [B, F, T] -> answer [B, C]: the parts held together.

``MoE.plan`` -> ``call_experts`` -> ``combine`` is the whole algorithm; a cluster replaces only the
middle line. ``forward`` is the training pass: every expert on the whole map and on a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmoe.base.config import ModelConfig, RoutingConfig
from xmoe.base.task import Task, task_of
from xmoe.experts.cnn import Expert, band_masks, band_rows
from xmoe.glance.router import Router, Routing, choose_counts
from xmoe.glance.saliency import activation_map, pool_cells, saliency_cells
from xmoe.glance.spans import (
    choose_windows,
    gather_windows,
    num_windows,
    score_cells,
    score_windows,
    windows_kept,
)
from xmoe.glance.stem import Stem, StemOutput
from xmoe.mixture.combine import ExpertReply
from xmoe.mixture.plan import Plan, choose_experts, quantise


@dataclass(frozen=True)
class Glance:
    """What the always-on part knows of a batch.

    ``stem`` its output; ``cam`` and ``cells`` [B, R, W] activation map and saliency;
    ``routing`` the gate and promises.
    """

    stem: StemOutput
    cam: Tensor
    cells: Tensor
    routing: Routing
    gate_logits: Tensor
    count_logits: Tensor


@dataclass(frozen=True)
class TrainingDraws:
    """The random numbers of one training step, drawn outside so that a seed fixes them.

    ``keep`` windows of the partial pass; ``window_noise`` [B, E, P].
    """

    keep: int
    window_noise: Tensor


@dataclass(frozen=True)
class TrainingOutput:
    """Logits of a training pass.

    ``stem`` [B, C]; ``full`` and ``part`` [E, B, C] of every expert on the whole map and on the
    chosen windows; ``gate`` [B, E]; ``count`` [B, K_max + 1].
    """

    stem: Tensor
    full: Tensor
    part: Tensor
    gate: Tensor
    count: Tensor


class MoE(nn.Module):
    """Stem, router and experts for spectrograms of ``num_bins`` frequency bins."""

    bands: Tensor

    def __init__(self, config: ModelConfig, *, num_bins: int) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(
            num_bins=num_bins, channels=config.stem_channels, num_classes=config.num_classes
        )
        self.router = Router(config, num_rows=self.stem.num_rows)
        self.experts = nn.ModuleDict(
            {
                name: Expert(
                    name,
                    in_channels=config.stem_channels,
                    channels=config.expert_channels,
                    num_classes=config.num_classes,
                    dropout=config.dropout,
                )
                for name in config.experts
            }
        )
        masks = band_masks(config.experts, self.stem.num_rows)
        self.register_buffer("bands", masks, persistent=False)

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return task_of(self.config.task)

    def glance(self, spec: Tensor) -> Glance:
        """Return stem output, saliency and routing of spectrograms [B, F, T]; no expert is run."""
        output = self.stem(spec)
        with torch.no_grad():
            belief = self.task.belief(output.logits)
            cam = activation_map(self.stem, output, belief)
            cells = saliency_cells(cam, spec)
            evidence = self.router.gather_evidence(
                features=output.features, cells=cells, belief=belief, spec=spec
            )
        gate_logits, count_logits = self.router(evidence)
        routing = Routing(gate_logits, torch.sigmoid(count_logits))
        return Glance(output, cam, cells, routing, gate_logits, count_logits)

    def rank_windows(self, glance: Glance, spec: Tensor, routing: RoutingConfig) -> Tensor:
        """Return window scores [B, E, P] by the selector that validation chose."""
        features = glance.stem.features
        if routing.selector == "random":
            total = num_windows(features.shape[3], self.config.window_frames)
            return torch.rand(features.shape[0], self.bands.shape[0], total, device=spec.device)
        cells = glance.cells
        if routing.selector != "saliency":
            over_least = spec - spec.amin((1, 2), keepdim=True)
            cells = score_cells(
                routing.selector,
                saliency=cells,
                cam=glance.cam,
                features=features,
                energy=pool_cells(over_least, glance.cam.shape[1:]),
            )
        return score_windows(cells, self.bands, self.config.window_frames)

    @torch.no_grad()
    def plan(
        self,
        spec: Tensor,
        routing: RoutingConfig,
        *,
        k: int | None = None,
        k_max: int | None = None,
    ) -> Plan:
        """Return the plan for spectrograms [B, F, T].

        ``k`` fixes the number of experts for every clip; ``k_max`` only bounds it.
        """
        glance = self.glance(spec)
        scores = self.rank_windows(glance, spec, routing)
        keep = windows_kept(scores.shape[2], routing.window_fraction)
        if k is None:
            count = choose_counts(glance.routing.promises, routing.k_price, k_max)
        else:
            count = torch.full((spec.shape[0],), k, device=spec.device)
        quantised, scale = quantise(glance.stem.features)
        return Plan(
            expert_names=self.config.experts,
            window_frames=self.config.window_frames,
            stem_logits=glance.stem.logits,
            gate=glance.routing.gate,
            weights=choose_experts(glance.gate_logits, count),
            windows=choose_windows(scores, keep),
            promises=glance.routing.promises,
            window_scores=scores,
            quantised=quantised,
            scale=scale,
        )

    @torch.no_grad()
    def call_experts(self, plan: Plan) -> dict[str, ExpertReply]:
        """Return the reply of each expert that the plan chose, in this process."""
        return {
            request.name: ExpertReply(
                request.rows, self.experts[request.name](request.dequantise())
            )
            for request in plan.requests()
        }

    def forward(self, spec: Tensor, draws: TrainingDraws) -> TrainingOutput:
        """Return every logit that the losses need for spectrograms [B, F, T]."""
        glance = self.glance(spec)
        features = glance.stem.features
        scores = score_windows(glance.cells, self.bands, self.config.window_frames)
        scores = scores / scores.amax(2, keepdim=True).clamp_min(1e-9) + draws.window_noise
        windows = choose_windows(scores, draws.keep)

        def run(name: str, index: int, look: Callable[[Tensor, int], Tensor]) -> Tensor:
            first, last = band_rows(name, features.shape[2])
            logits: Tensor = self.experts[name](look(features[:, :, first:last], index))
            return logits

        def whole(band: Tensor, index: int) -> Tensor:
            return band

        def part(band: Tensor, index: int) -> Tensor:
            return gather_windows(band, windows[:, index], self.config.window_frames)

        names = list(enumerate(self.config.experts))
        return TrainingOutput(
            stem=glance.stem.logits,
            full=torch.stack([run(name, index, whole) for index, name in names]),
            part=torch.stack([run(name, index, part) for index, name in names]),
            gate=glance.gate_logits,
            count=glance.count_logits,
        )


def split_weights(model: MoE) -> dict[str, dict[str, Tensor]]:
    """Return a model's weights as one group per file: stem, router, expert-<name>."""
    groups = {"stem": dict(model.stem.state_dict()), "router": dict(model.router.state_dict())}
    for name, expert in model.experts.items():
        groups[f"expert-{name}"] = dict(expert.state_dict())
    return groups


def load_weights_into(model: MoE, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Load weights that ``split_weights`` grouped."""
    model.stem.load_state_dict(dict(groups["stem"]))
    model.router.load_state_dict(dict(groups["router"]))
    for name, expert in model.experts.items():
        expert.load_state_dict(dict(groups[f"expert-{name}"]))
