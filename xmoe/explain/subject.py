"""The classifier that is explained, and the numbers that it gives without a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.base.config import RoutingConfig
from xmoe.experts.protocol import ExpertReply, Inputs
from xmoe.frontend.base import Frontend
from xmoe.glance.router import Routing
from xmoe.mixture.combine import Combined, combine
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan
from xmoe.mixture.rounds import answer_plan
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor

BATCH = 128


@dataclass(frozen=True)
class Subject:
    """The classifier that is explained: model in eval mode, its front end, routing and classes."""

    model: MoE
    frontend: Frontend
    routing: RoutingConfig
    classes: tuple[str, ...]

    @classmethod
    def of(cls, predictor: Predictor) -> Subject:
        config = predictor.config
        return cls(predictor.model, predictor.frontend, config.routing, config.classes)

    @torch.no_grad()
    def probabilities(self, specs: Tensor, sound: Sound | None = None) -> Tensor:
        """Calibrated probabilities [B, C] of spectrograms [B, F, T], each planned anew.

        ``sound`` is that of the same segments, for experts on sound.
        """
        parts = []
        for first in range(0, len(specs), BATCH):
            rows = slice(first, first + BATCH)
            own = None if sound is None else sound.rows(rows)
            parts.append(self.answer(*self.model.prepare(specs[rows], self.routing, sound=own))[1])
        return torch.cat(parts)

    @torch.no_grad()
    def answer(self, plan: Plan, inputs: Inputs) -> tuple[Plan, Tensor]:
        """The final plan, after a second round, and probabilities [B, C]."""
        plan, combined = answer_plan(self.model, plan, inputs, self.routing)
        return plan, self.calibrate(combined)

    @torch.no_grad()
    def carry_out(self, plan: Plan, inputs: Inputs) -> Tensor:
        """Calibrated probabilities [B, C] of a plan as it stands."""
        return self.calibrate(self.model.carry_out(plan, inputs))

    def read(self, plan: Plan, replies: Mapping[str, ExpertReply]) -> Tensor:
        """Calibrated probabilities [B, C] of a plan from the replies given."""
        return self.calibrate(combine(plan, replies))

    def calibrate(self, combined: Combined) -> Tensor:
        """Calibrated probabilities [B, C], by how many experts answered."""
        answered = (combined.weights > 0).sum(1)
        scale = torch.tensor(self.routing.temperatures or (1.0,), device=combined.logits.device)
        divisor = scale[answered.to(scale.device).clamp_max(len(scale) - 1)].unsqueeze(1)
        return self.model.task.probabilities(combined.logits / divisor)

    @torch.no_grad()
    def routings(self, specs: Tensor) -> Routing:
        """Gate [B, E] and promises [B, K_max + 1] of spectrograms; no expert is run."""
        found = [self.model.glance(block).routing for block in specs.split(BATCH)]
        return Routing(
            torch.cat([routing.gate_logits for routing in found]),
            torch.cat([routing.promises for routing in found]),
        )


def surest_segment(predictor: Predictor, specs: Tensor, sound: Sound | None = None) -> int:
    """Which of the segments [n, F, T], with their sound, is surest of the answer."""
    return pick_surest(predictor, predictor.answer_segments(specs, sound))


def pick_surest(predictor: Predictor, answers: SegmentAnswers) -> int:
    """Which of a recording's segments is surest of its answer."""
    top = int(predictor.probabilities(answers.logits).argmax())
    return int(predictor.task.log_probabilities(answers.logits)[:, top].argmax())
