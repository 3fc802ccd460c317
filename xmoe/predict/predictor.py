"""A run folder + a recording -> an answer with its probabilities, experts and warnings.

A recording is cut into segments as in training; each is measured, planned, answered and combined by
itself, and the recording's answer is the mean of their calibrated logits.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.samples import Decoded
from xmoe.audio.segment import Grid, Segment
from xmoe.audio.sound import Sound, hold_sound
from xmoe.base.config import RunConfig
from xmoe.base.errors import InputError
from xmoe.base.layers import fold_norms
from xmoe.base.task import Task, task_of
from xmoe.experts.protocol import Expert
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import survive_fork
from xmoe.mixture.calls import AskExpert
from xmoe.mixture.combine import Combined
from xmoe.mixture.moe import MoE, load_weights_into
from xmoe.mixture.plan import Plan
from xmoe.mixture.rounds import answer_plan
from xmoe.predict.answer import Answer, ExpertUse, SegmentAnswers, join_answers
from xmoe.predict.doubts import find_doubts
from xmoe.run.folder import RunFolder, Which, answering_parts
from xmoe.run.steady import read_steadily

# More no longer fit into a processor's cache.
BATCH = 8
# A GPU's time goes into starting kernels, not into their work: docs/gpu.md.
GPU_BATCH = 1024


class Predictor:
    """A fitted classifier in this process; an expert that is not among ``experts`` is missing.

    ``batch`` is how many segments it answers at once.
    """

    def __init__(
        self,
        config: RunConfig,
        model: MoE,
        *,
        device: torch.device | None = None,
        experts: Mapping[str, AskExpert] | None = None,
    ) -> None:
        survive_fork()
        self.config = config
        self.device = device or torch.device("cpu")
        self.batch = BATCH if self.device.type == "cpu" else GPU_BATCH
        self.model = model.to(self.device).eval()
        self.frontend: Frontend = build_frontend(config.spectro).eval()
        self.experts = self.model.callers() if experts is None else dict(experts)

    @classmethod
    def load(
        cls, run: str | Path, *, which: Which = "best", device: torch.device | None = None
    ) -> Predictor:
        """Load a run folder; RunFolderError where it is damaged or not ours."""
        folder = RunFolder(run)

        def read() -> tuple[RunConfig, dict[str, dict[str, Tensor]]]:
            config = folder.read_config()
            parts = answering_parts(config.model.expert_names)
            return config, {part: folder.load_tensors(part, which) for part in parts}

        config, weights = read_steadily(folder, read, which)
        model = MoE(config.model, config.spectro)
        load_weights_into(model, weights)
        for expert in model.experts.values():
            assert isinstance(expert, Expert)
            expert.load()  # now, for a fetched run is deleted once it is loaded
        fold_norms(model)
        return cls(config, model, device=device)

    @property
    def task(self) -> Task:
        return task_of(self.config.model.task)

    def cut(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, hop_s: float | None = None
    ) -> list[Segment]:
        """Segments of a recording [S], ``hop_s`` apart or as in training."""
        spectro = self.config.spectro
        hop_s = hop_s or spectro.segment_hop_s
        return Grid.of(sample_rate_hz, segment_s=spectro.segment_s, hop_s=hop_s).cut(samples)

    def measure(self, segments: Sequence[Segment]) -> Tensor:
        """Compressed spectrograms [n, F, T] of the segments of a recording."""
        return self.frontend.compress(*measure_segments(segments, self.frontend))

    def hear(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int
    ) -> tuple[Tensor, Sound | None]:
        """Compressed segments [n, F, T] of a recording [S], and their sound."""
        segments = self.cut(samples, sample_rate_hz)
        return self.measure(segments), self.sound_of(segments)

    def sound_of(self, segments: Sequence[Segment]) -> Sound | None:
        """The sound of segments, if an expert of this run needs it."""
        return hold_sound(segments) if self.config.model.hears_sound else None

    @torch.inference_mode()
    def answer_segments(
        self,
        specs: Tensor,
        sound: Sound | None = None,
        *,
        k: int | None = None,
        k_max: int | None = None,
    ) -> SegmentAnswers:
        """Answers to segments [n, F, T]; ``sound`` is theirs, for experts that need it.

        ``k`` fixes and ``k_max`` bounds the experts. Raises ValueError where the sound is lacking,
        InputError where these are no numbers of experts.
        """
        k, k_max = (_check_count(*pair) for pair in (("k", k), ("k_max", k_max)))
        if k is not None and k_max is not None:
            k = min(k, k_max)
        if sound is None and self.config.model.hears_sound:
            raise ValueError("experts of this run hear sound: give it with the segments (hear)")
        parts, routing = [], self.config.routing
        for first in range(0, len(specs), self.batch):
            rows = slice(first, first + self.batch)
            own = None if sound is None else sound.rows(rows)
            block = specs[rows].to(self.device)
            plan, inputs = self.model.prepare(
                block, routing, sound=own, k=k, k_max=k_max, only_needed=True
            )
            most = k_max if k is None else k
            plan, combined = answer_plan(
                self.model, plan, inputs, routing, callers=self.experts, k_max=most
            )
            parts.append(self.read_combined(plan, combined))
        return join_answers(parts)

    def read_combined(self, plan: Plan, combined: Combined) -> SegmentAnswers:
        """Calibrated answers to the segments of one plan."""
        answered = (combined.weights > 0).sum(1)
        logits = combined.logits / self._temperatures(answered)
        values = (logits, plan.k, combined.weights, combined.missing, plan.saliency_share)
        return SegmentAnswers(*(value.cpu() for value in values))

    def _temperatures(self, answered: Tensor) -> Tensor:
        scale = self.config.routing.temperatures or (1.0,) * (self.config.model.k_max + 1)
        table = torch.tensor(scale, device=answered.device)
        return table[answered.clamp_max(len(scale) - 1)].unsqueeze(1)

    def probabilities(self, logits: Tensor) -> npt.NDArray[np.float64]:
        """Probabilities [C] of a recording from its segments' logits [n, C]."""
        return self.task.pool_probabilities(logits.numpy().astype(np.float64))

    def predict(
        self,
        samples: npt.NDArray[np.float32],
        sample_rate_hz: int,
        *,
        k: int | None = None,
        k_max: int | None = None,
    ) -> Answer:
        """The answer to samples [S]."""
        return self.answer(Decoded(samples, sample_rate_hz, 0.0), k=k, k_max=k_max)

    def answer(self, decoded: Decoded, *, k: int | None = None, k_max: int | None = None) -> Answer:
        """The answer to one recording, with warnings about it."""
        began = time.perf_counter()
        specs, sound = self.hear(decoded.samples, decoded.sample_rate_hz)
        answers = self.answer_segments(specs, sound, k=k, k_max=k_max)
        seconds = time.perf_counter() - began
        return self.summarise(answers, warnings=self.doubts(decoded), seconds=seconds)

    def doubts(self, decoded: Decoded) -> list[str]:
        return find_doubts(decoded, fmax_hz=self.config.spectro.fmax_hz)

    def summarise(
        self, answers: SegmentAnswers, *, warnings: Sequence[str] = (), seconds: float = 0.0
    ) -> Answer:
        """One recording's answer from those of its segments."""
        config = self.config
        p = self.probabilities(answers.logits)
        top = int(p.argmax())
        # numpy: torch releases the interpreter lock at every step, which costs more than the sums.
        segments = answers.weights.numpy()
        weights, asked = segments.mean(0), (segments > 0).mean(0)
        experts = [
            ExpertUse(name=name, weight=round(float(w), 6), share=round(float(s), 6))
            for name, w, s in zip(config.model.expert_names, weights, asked, strict=True)
            if float(w) > 0
        ]
        lost = np.any(answers.missing.numpy(), axis=0).tolist()
        missing = [n for n, gone in zip(config.model.expert_names, lost, strict=True) if gone]
        return Answer(
            label=config.classes[top],
            labels=tuple(config.classes[i] for i in np.nonzero(self.task.said(p))[0]),
            label_id=top,
            probability=float(p[top]),
            probabilities={c: float(v) for c, v in zip(config.classes, p, strict=True)},
            entropy=self.task.entropy(p),
            uncertain=bool(p[top] < config.routing.uncertain_below),
            k=float(answers.k.numpy().mean()),
            experts=tuple(sorted(experts, key=lambda use: -use.weight)),
            segments=len(answers.logits),
            degraded=bool(missing),
            missing_experts=tuple(missing),
            warnings=tuple(warnings),
            seconds=round(seconds, 6),
        )


def _check_count(name: str, count: int | None) -> int | None:
    """A number of experts as it was given; InputError where it is none."""
    try:
        whole = None if count is None else operator.index(count)
    except TypeError:
        whole = -1
    if whole is None or whole >= 0:
        return whole
    mend = "give a whole number of experts, 0 or more"
    raise InputError(f"{name} is {count!r}", where=name, mend=mend)
