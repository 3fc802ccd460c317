"""Spectrogram [B, F, T] -> answer [B, C]: the parts held together.

``MoE.prepare`` -> ``call_experts`` -> ``combine`` is the whole algorithm; a cluster replaces only
the middle line. ``forward`` is the training pass: every expert on the whole map and on part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmoe.audio.sound import Sound
from xmoe.base.config import BackboneSpec, ExpertSpec, ModelConfig, RoutingConfig, SpectroConfig
from xmoe.base.task import Task, task_of
from xmoe.experts.cnn import CnnExpert, gather_windows
from xmoe.experts.protocol import Expert, ExpertRequest, Inputs
from xmoe.experts.registry import build_expert, pack_payload, rows_of
from xmoe.glance.kernel_stem import KernelStem
from xmoe.glance.router import Router, Routing, choose_counts
from xmoe.glance.saliency import AnyStem, activation_map, pool_cells, saliency_cells
from xmoe.glance.spans import (
    band_masks,
    choose_runs,
    choose_windows,
    num_windows,
    score_cells,
    score_windows,
    window_edges_s,
    windows_kept,
)
from xmoe.glance.stem import DECIMATION, Stem, StemOutput
from xmoe.mixture.calls import AskExpert, call_experts, make_requests, quantise
from xmoe.mixture.combine import Combined, combine
from xmoe.mixture.plan import Plan, Preference, prefer_by_gate, spans_of, whole_spans
from xmoe.mixture.promise_router import PromiseRouter
from xmoe.run.folder import ROUTER, STEM, expert_part


@dataclass(frozen=True)
class Glance:
    """What is known of a batch before any expert is asked.

    ``stem`` its output; ``cam`` and ``cells`` [B, R, W] activation map and saliency, [B, R, 0] if
    left out; ``routing`` the gate and promises; ``num_frames`` T of the spectrograms; ``evidence``
    [B, G] what the router read.
    """

    stem: StemOutput
    cam: Tensor
    cells: Tensor
    routing: Routing
    gate_logits: Tensor
    count_logits: Tensor
    num_frames: int
    evidence: Tensor


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
    """Stem, router and experts on the spectrograms of one front end."""

    bands: Tensor

    def __init__(self, config: ModelConfig, spectro: SpectroConfig) -> None:
        super().__init__()
        self.config, self.spectro = config, spectro
        self.frame_s = 1.0 / spectro.frame_rate_hz
        self.stem = build_stem(config, spectro)
        self.router = build_router(config, num_rows=self.stem.num_rows)
        self.experts = nn.ModuleDict(
            {name: build_expert(config, name) for name in config.expert_names}
        )
        self._maps = any(spec.kind == "cnn" for spec in config.experts)
        rows = [rows_of(expert, self.stem.num_rows) for expert in config.experts]
        masks = band_masks(rows, self.stem.num_rows)
        self.register_buffer("bands", masks, persistent=False)

    @property
    def task(self) -> Task:
        return task_of(self.config.task)

    def glance(self, spec: Tensor, *, saliency: bool = True) -> Glance:
        """Stem output, saliency and routing of spectrograms [B, F, T]; no expert is asked.

        Without ``saliency`` there is none; only a router that does not read it can do without.
        """
        output = self.stem(spec)
        with torch.no_grad():
            belief = self.task.belief(output.logits)
            cam = cells = spec.new_zeros(len(spec), self.stem.num_rows, 0)
            if saliency:
                cam = activation_map(self.stem, output, belief)
                cells = saliency_cells(cam, spec)
            evidence = self.router.needed_evidence(
                features=output.features, cells=cells, belief=belief, spec=spec
            )
        gate_logits, count_logits = self.router(evidence)
        routing = Routing(gate_logits, torch.sigmoid(count_logits))
        frames = spec.shape[2]
        return Glance(output, cam, cells, routing, gate_logits, count_logits, frames, evidence)

    def needs_saliency(self, routing: RoutingConfig) -> bool:
        """Whether an answer depends on it: a promise reads it, or windows are picked by it."""
        if not isinstance(self.router, PromiseRouter) or self.router.reads_glance:
            return True
        picky = any(
            isinstance(spec, BackboneSpec) and spec.windows is not None
            for spec in self.config.experts
        )
        return picky or routing.window_fraction < 1.0

    def rank_windows(self, glance: Glance, spec: Tensor, routing: RoutingConfig) -> Tensor:
        """Window scores [B, E, P] by the selector that validation chose."""
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

    def choose_windows(self, scores: Tensor, routing: RoutingConfig) -> Tensor:
        """Rising indices [B, E, n] of the windows chosen by scores [B, E, P].

        A share of all windows, as the routing says; for an expert that fixes their number, runs as
        long as its own windows. Experts with fewer than n repeat their last.
        """
        keep = windows_kept(scores.shape[2], routing.window_fraction)
        chosen = choose_windows(scores, keep)
        window_s = self.config.window_frames * DECIMATION * self.frame_s
        own = {
            index: choose_runs(
                scores[:, index], max(round(spec.card.span_s / window_s), 1), spec.windows
            )
            for index, spec in enumerate(self.config.experts)
            if isinstance(spec, BackboneSpec) and spec.windows is not None
        }
        if not own:
            return chosen
        parts = [own.get(index, chosen[:, index]) for index in range(scores.shape[1])]
        most = max(part.shape[1] for part in parts)
        padded = [F.pad(p.float()[None], (0, most - p.shape[1]), "replicate")[0] for p in parts]
        return torch.stack(padded, 1).long()

    def read_inputs(self, glance: Glance, sound: Sound | None = None) -> Inputs:
        features = glance.stem.features
        if self._maps:
            levels, scale = quantise(features)
        else:  # no expert reads the map: only its grid matters
            levels = features[:, :0].to(torch.uint8)
            scale = features.new_ones(len(features))
        column_s = DECIMATION * self.frame_s
        return Inputs(levels, scale, column_s, self.config.window_frames, sound)

    @torch.no_grad()
    def prepare(
        self,
        spec: Tensor,
        routing: RoutingConfig,
        *,
        sound: Sound | None = None,
        k: int | None = None,
        k_max: int | None = None,
        only_needed: bool = False,
    ) -> tuple[Plan, Inputs]:
        """Plan spectrograms [B, F, T]; returns the plan and what its experts are fed from.

        ``sound`` is that of the same segments. ``k`` fixes the number of experts for every clip,
        ``k_max`` bounds it. A router that promises decides again once they have answered
        (``xmoe.mixture.rounds``). With ``only_needed`` saliency is left out where the answer does
        not depend on it: every window scores 0 then, and every expert is sent them all.
        """
        looks = not only_needed or self.needs_saliency(routing)
        glance = self.glance(spec, saliency=looks)
        promises, costs = glance.routing.promises, routing.costs_ms
        if k is None:
            first = self.config.k_max if routing.asks_all else self.first_most
            first = first if k_max is None else min(k_max, first)
            count = choose_counts(promises, routing.k_price, first, costs_ms=costs)
        else:
            count = torch.full((spec.shape[0],), k, device=spec.device)
        preference = self.prefer(glance.gate_logits)
        edges_s = self._edges_s(glance.stem.features.shape[3], glance.num_frames)
        if looks:
            scores = self.rank_windows(glance, spec, routing)
            spans = spans_of(self.choose_windows(scores, routing), edges_s)
        else:
            shape = (len(spec), len(self.config.experts), len(edges_s) - 1)
            scores = spec.new_zeros(()).expand(shape)
            spans = whole_spans(edges_s, spec.device).expand(*shape, 2)
        plan = Plan(
            expert_names=self.config.expert_names,
            window_edges_s=edges_s,
            stem_logits=glance.stem.logits,
            gate=glance.routing.gate,
            weights=preference.choose(count),
            spans=spans,
            promises=promises,
            window_scores=scores,
            **vars(preference),
            evidence=glance.evidence,
        )
        return plan, self.read_inputs(glance, sound)

    @property
    def first_most(self) -> int:
        """How many experts a clip may ask before any has answered."""
        if isinstance(self.router, PromiseRouter):
            return int(self.router.first_most)
        return self.config.k_max

    def prefer(self, gate_logits: Tensor) -> Preference:
        """Which experts clips of a gate [B, E] would ask, and with what weights."""
        if isinstance(self.router, PromiseRouter):
            return self.router.prefer(gate_logits)
        return prefer_by_gate(gate_logits, self.config.k_max)

    def _edges_s(self, columns: int, frames: int) -> tuple[float, ...]:
        width = self.config.window_frames
        return tuple(window_edges_s(columns, width, frames, self.frame_s))

    def plan(
        self,
        spec: Tensor,
        routing: RoutingConfig,
        *,
        k: int | None = None,
        k_max: int | None = None,
    ) -> Plan:
        """The plan alone; it needs no sound."""
        return self.prepare(spec, routing, k=k, k_max=k_max)[0]

    def requests(self, plan: Plan, inputs: Inputs) -> list[ExpertRequest]:
        return make_requests(plan, inputs, self.config.experts)

    def callers(self) -> dict[str, AskExpert]:
        """The experts of this process as functions from a request to logits."""
        return {name: partial(_ask, expert) for name, expert in self.experts.items()}

    @torch.no_grad()
    def carry_out(self, plan: Plan, inputs: Inputs) -> Combined:
        return combine(plan, call_experts(self.callers(), self.requests(plan, inputs)))

    def forward(self, spec: Tensor, draws: TrainingDraws) -> TrainingOutput:
        """Every logit that the losses need for spectrograms [B, F, T]."""
        glance = self.glance(spec)
        scores = score_windows(glance.cells, self.bands, self.config.window_frames)
        scores = scores / scores.amax(2, keepdim=True).clamp_min(1e-9) + draws.window_noise
        windows = choose_windows(scores, draws.keep)

        return TrainingOutput(
            stem=glance.stem.logits,
            full=self.answer_all(glance),
            part=self.answer_all(glance, windows),
            gate=glance.gate_logits,
            count=glance.count_logits,
        )

    def answer_all(self, glance: Glance, windows: Tensor | None = None) -> Tensor:
        """Logits [E, B, C] of every expert on the whole map, or on windows [B, E, keep].

        Experts on the stem map have gradients; any other answers as it serves.
        """
        named = enumerate(self.config.experts)
        picked = [(spec, None if windows is None else windows[:, index]) for index, spec in named]
        return torch.stack([self._answer_one(spec, glance, own) for spec, own in picked])

    def _answer_one(self, spec: ExpertSpec, glance: Glance, windows: Tensor | None) -> Tensor:
        expert, features = self.experts[spec.name], glance.stem.features
        if isinstance(expert, CnnExpert):
            first, last = rows_of(spec, features.shape[2])
            band = features[:, :, first:last]
            if windows is not None:
                band = gather_windows(band, windows, self.config.window_frames)
            logits: Tensor = expert(band)
            return logits
        assert isinstance(expert, Expert)
        with torch.no_grad():
            if windows is None:
                total = num_windows(features.shape[3], self.config.window_frames)
                windows = torch.arange(total, device=features.device).expand(len(features), -1)
            edges_s = self._edges_s(features.shape[3], glance.num_frames)
            rows = torch.arange(len(features), device=features.device)
            spans = spans_of(windows, edges_s)
            return expert.answer(pack_payload(spec, self.read_inputs(glance), rows, spans))


def build_stem(config: ModelConfig, spectro: SpectroConfig) -> AnyStem:
    if config.stem == "kernels":
        return KernelStem(num_bins=spectro.num_bins, num_classes=config.num_classes)
    return Stem(
        num_bins=spectro.num_bins, channels=config.stem_channels, num_classes=config.num_classes
    )


def build_router(config: ModelConfig, *, num_rows: int) -> Router | PromiseRouter:
    kind = PromiseRouter if config.router == "promise" else Router
    return kind(config, num_rows=num_rows)


def _ask(expert: nn.Module, request: ExpertRequest) -> Tensor:
    assert isinstance(expert, Expert)
    return expert.answer(request.payload)


def split_weights(model: MoE) -> dict[str, dict[str, Tensor]]:
    """A model's weights, one group per part of a checkpoint."""
    groups = {STEM: dict(model.stem.state_dict()), ROUTER: dict(model.router.state_dict())}
    for name, expert in model.experts.items():
        groups[expert_part(name)] = dict(expert.state_dict())
    return groups


def load_weights_into(model: MoE, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    model.stem.load_state_dict(dict(groups[STEM]))
    model.router.load_state_dict(dict(groups[ROUTER]))
    for name, expert in model.experts.items():
        expert.load_state_dict(dict(groups[expert_part(name)]))
