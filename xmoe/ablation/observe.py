"""Trained stem and experts + recordings -> all that a router could read and cause, as tensors.

Everything below the router is fixed, so it is computed once: the evidence of every kind, the answer
of the stem and the answer of every expert. An arm is then a router of two small networks fitted to
these tensors, in seconds, on the same clips with the same augmentation as every other arm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from xmoe.ablation.evidence import gather_kinds
from xmoe.base.config import RoutingConfig, RunConfig
from xmoe.base.files import write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.features.segments import Segments, eval_segments, join_copies
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.base import Frontend
from xmoe.frontend.spec_augment import add_noise_power
from xmoe.glance.stem import stem_columns
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import stack_replies
from xmoe.mixture.moe import MoE
from xmoe.training.batches import epoch_generator, make_batch
from xmoe.training.losses import draw_step

BATCH = 64
PLAIN_TENSORS = ("stem", "full", "part", "owner", "targets")


@dataclass(frozen=True)
class Observed:
    """What a fixed mixture makes of n segments.

    ``evidence`` by kind [n, .]; ``stem`` [n, C]; ``full`` and ``part`` [E, n, C] of every expert on
    the whole map and on chosen windows (the same where none were chosen); ``owner`` [n] says whose
    clip a segment is; ``targets`` [n, C] in training, [clips, C] in evaluation.
    """

    evidence: dict[str, Tensor]
    stem: Tensor
    full: Tensor
    part: Tensor
    owner: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.stem)

    @property
    def segments(self) -> Segments:
        """Whose each segment is, to pool logits by clip."""
        return Segments(torch.empty(0), self.owner)


@torch.no_grad()
def observe_training(
    model: MoE,
    frontend: Frontend,
    config: RunConfig,
    store: SpectrogramStore,
    *,
    samples: int,
    progress: Progress = silent,
) -> Observed:
    """Return at least ``samples`` augmented training crops as the mixture's own training sees them.

    Crops and augmentation are those of epochs that its training has not reached.
    """
    size, parts, seen, epoch = min(config.train.batch_size, len(store)), [], 0, 1_000_000
    while seen < samples:
        generator = epoch_generator(config.train.seed, epoch)
        order = torch.randperm(len(store), generator=generator).split(size)
        for picked in order[: max(1, len(store) // size)]:
            spec, targets = make_batch(store, frontend, config, picked.tolist(), generator)
            columns = stem_columns(spec.shape[2])
            draws = draw_step(config.model, batch=len(spec), columns=columns, generator=generator)
            output = model(spec, draws)
            evidence = gather_kinds(model, model.glance(spec), spec)
            parts.append((evidence, output.stem, output.full, output.part, picked, targets))
            seen += len(picked)
            progress("observe train", min(seen, samples), samples)
            if seen >= samples:
                break
        epoch += 1
    kinds, stem, full, part, owner, soft = zip(*parts, strict=True)
    return Observed(
        evidence={kind: torch.cat([row[kind] for row in kinds]) for kind in kinds[0]},
        stem=torch.cat(stem),
        full=torch.cat(full, 1),
        part=torch.cat(part, 1),
        owner=torch.cat(owner),
        targets=torch.cat(soft),
    )


@torch.no_grad()
def observe_clips(model: MoE, segments: Segments, targets: Tensor) -> Observed:
    """Return what the mixture answers on fixed segments when experts hear the whole map."""
    rows = []
    for spec in segments.spec.split(BATCH):
        stem, logits = answer_all(model, spec, RoutingConfig())
        rows.append((gather_kinds(model, model.glance(spec), spec), stem, logits))
    kinds, stems, experts = zip(*rows, strict=True)
    said = torch.cat(experts, 1)
    return Observed(
        evidence={kind: torch.cat([row[kind] for row in kinds]) for kind in kinds[0]},
        stem=torch.cat(stems),
        full=said,
        part=said,
        owner=segments.clip,
        targets=targets,
    )


@torch.no_grad()
def answer_all(model: MoE, spec: Tensor, routing: RoutingConfig) -> tuple[Tensor, Tensor]:
    """Return stem logits [B, C] and those of every expert [E, B, C], as they would be served.

    ``routing`` says which windows experts hear; a masked expert's logits are zero.
    """
    plan, inputs = model.prepare(spec, routing, k=len(model.config.experts))
    replies = call_experts(model.callers(), model.requests(plan, inputs))
    return plan.stem_logits, stack_replies(plan, replies)[0]


def cut_segments(
    store: SpectrogramStore,
    frontend: Frontend,
    config: RunConfig,
    *,
    snr_db: float | None = None,
) -> tuple[Segments, Tensor]:
    """Return the fixed segments of every clip of a store and the clips' targets [clips, C].

    ``snr_db`` adds noise at that ratio first, drawn from the seed of the run.
    """
    generator = torch.Generator().manual_seed(config.train.seed)
    change: Callable[[Tensor], Tensor] | None = None
    if snr_db is not None:

        def change(power: Tensor) -> Tensor:
            return add_noise_power(power, snr_db_range=(snr_db, snr_db), generator=generator)

    segments = eval_segments(store, frontend, range(len(store)), change=change)
    task = task_of(config.model.task)
    return segments, task.soft_targets(store.targets, config.model.num_classes)


def merge_clips(copies: list[Observed]) -> Observed:
    """Return one observation over copies of the same clips, each counted as clips of its own."""
    kinds = copies[0].evidence
    return Observed(
        evidence={kind: torch.cat([copy.evidence[kind] for copy in copies]) for kind in kinds},
        stem=torch.cat([copy.stem for copy in copies]),
        full=torch.cat([copy.full for copy in copies], 1),
        part=torch.cat([copy.part for copy in copies], 1),
        owner=join_copies([copy.segments for copy in copies], len(copies[0].targets)).clip,
        targets=torch.cat([copy.targets for copy in copies]),
    )


def save_observed(path: Path, observed: Observed) -> None:
    """Write an observation as one safetensors file."""
    tensors = {f"evidence.{kind}": value for kind, value in observed.evidence.items()}
    tensors |= {name: getattr(observed, name) for name in PLAIN_TENSORS}
    write_bytes(path, save({name: value.clone() for name, value in tensors.items()}))


def load_observed(path: Path) -> Observed:
    """Return the observation that ``save_observed`` wrote."""
    tensors = load_file(path)
    evidence = {
        name.removeprefix("evidence."): value
        for name, value in tensors.items()
        if name.startswith("evidence.")
    }
    return Observed(evidence=evidence, **{name: tensors[name] for name in PLAIN_TENSORS})
