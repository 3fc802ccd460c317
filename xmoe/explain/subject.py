"""The classifier that is explained, and the numbers that it gives without a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.base.config import RoutingConfig
from xmoe.experts.protocol import Inputs
from xmoe.frontend.base import Frontend
from xmoe.glance.router import Routing
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan
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
        """Return what a predictor answers with."""
        config = predictor.config
        return cls(predictor.model, predictor.frontend, config.routing, config.classes)

    @torch.no_grad()
    def probabilities(self, specs: Tensor) -> Tensor:
        """Return calibrated probabilities [B, C] of spectrograms [B, F, T], each planned anew."""
        prepared = (self.model.prepare(block, self.routing) for block in specs.split(BATCH))
        return torch.cat([self.carry_out(plan, inputs) for plan, inputs in prepared])

    @torch.no_grad()
    def carry_out(self, plan: Plan, inputs: Inputs) -> Tensor:
        """Return the calibrated probabilities [B, C] of a plan."""
        combined = self.model.carry_out(plan, inputs)
        heard = (combined.weights > 0).sum(1)
        return self._calibrate(combined.logits, heard)

    def _calibrate(self, logits: Tensor, heard: Tensor) -> Tensor:
        scale = torch.tensor(self.routing.temperatures or (1.0,), device=logits.device)
        logits = logits / scale[heard.to(scale.device).clamp_max(len(scale) - 1)].unsqueeze(1)
        return self.model.task.probabilities(logits)

    @torch.no_grad()
    def routings(self, specs: Tensor) -> Routing:
        """Return gate [B, E] and promises [B, K_max + 1] of spectrograms; no expert is run."""
        found = [self.model.glance(block).routing for block in specs.split(BATCH)]
        return Routing(
            torch.cat([routing.gate_logits for routing in found]),
            torch.cat([routing.promises for routing in found]),
        )


def surest_segment(predictor: Predictor, specs: Tensor, sound: Sound | None = None) -> int:
    """Return which of the segments [n, F, T], with their sound, is surest of the answer."""
    answers = predictor.answer_segments(specs, sound)
    top = int(predictor.probabilities(answers.logits).argmax())
    return int(predictor.task.log_probabilities(answers.logits)[:, top].argmax())
