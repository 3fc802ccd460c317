"""A fitted mixture -> the promises of its router, and at which price experts are asked.

What the router would have known of a clip is made again as it is made in service (front end, stem,
saliency, conditions), clean and under noise; what it would have heard are held-out answers.
Everything is kept by price, so that another budget needs no fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.segment import Samples, Segment
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.progress import Progress, silent
from xmoe.experts.ridge import Floats, Ints
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.mixture.moe import MoE
from xmoe.mixture.promise_router import STEM_NAME, PromiseRouter, tabulate_shares
from xmoe.routing.promise import Promises
from xmoe.training.closed import Fitted, rightness, stem_spec
from xmoe.training.kernel_features import (
    CopyName,
    Spec,
    copy_pieces,
    cut_training,
    measure_features,
    seed_of,
)
from xmoe.training.promise import (
    Depths,
    choose_first_most,
    cross_fit,
    fit_promises,
    route,
)

MOST_CLIPS = 1000
COPIES: tuple[CopyName, ...] = ("whole", "noisy")


@dataclass(frozen=True)
class Promised:
    """The router's promises, and what is known of held-out clips at every depth.

    ``mixed`` [K + 1, n, C] are the answers by depth, before any temperature, ``rows`` [n, C] the
    truth; ``clean`` are the rows without noise. ``folds`` hold promises that do not know the
    sources of some rows.
    """

    promises: Promises
    depths: Depths
    mixed: Floats
    rows: Floats
    clean: Ints
    folds: tuple[tuple[Ints, Promises], ...]

    def asked_at(self, price: float) -> Ints:
        """Return how many experts each row asks at a price."""
        if price < 0.0 or not self.folds:
            return np.full(len(self.rows), len(self.depths.order), dtype=np.int64)
        asked = np.zeros(len(self.rows), dtype=np.int64)
        for rows, promises in self.folds:
            asked[rows] = route(promises, self.depths.rows(rows), price=price)
        return asked


def promise(fitted: Fitted, model: MoE, *, progress: Progress = silent) -> Promised:
    """Fit the promises of a mixture whose stem is in ``model`` already."""
    picked = pick_rows(fitted)
    logits = {copy: answer_copy(fitted, copy, progress)[:, picked] for copy in COPIES}
    glances = watch(fitted, model, picked, logits, progress)
    evidence, right, mixed = [], [], []
    truth = fitted.targets.rows[picked]
    for copy in COPIES:
        seen, answers = describe_depths(fitted, model, logits[copy], glances[copy])
        evidence.append(seen)
        mixed.append(answers)
        right.append(np.stack([rightness(one, truth, fitted.job.task) for one in answers], axis=1))
    units = fitted.units[picked]
    depths = Depths(
        fitted.names,
        tuple(fitted.ms[name] for name in fitted.names),
        tuple(np.concatenate(pair) for pair in zip(*evidence, strict=True)),
        np.concatenate(right),
        np.concatenate([units] * len(COPIES)),
    )
    folds = cross_fit(depths)
    first = choose_first_most(folds, depths) if folds else len(depths.order)
    promises = fit_promises(depths, first_most=first)
    progress("promises", 1, 1, f"the first round asks at most {first} of {len(depths.order)}")
    limited = [(rows, one.model_copy(update={"first_most": first})) for rows, one in folds]
    rows = np.concatenate([truth] * len(COPIES))
    clean = np.arange(len(picked))
    return Promised(promises, depths, np.concatenate(mixed, axis=1), rows, clean, tuple(limited))


def pick_rows(fitted: Fitted) -> Ints:
    """Return rows of clips that judge: all of them, or as many as can be watched."""
    owners = fitted.features.owners
    clips = np.unique(owners[fitted.judges])
    if len(clips) > MOST_CLIPS:
        kept = np.random.default_rng(fitted.job.seed).permutation(clips)[:MOST_CLIPS]
        clips = np.sort(kept)
    return np.flatnonzero(np.isin(owners, clips))


def answer_copy(fitted: Fitted, copy: CopyName, progress: Progress) -> Floats:
    """Return held-out logits [1 + E, rows, C] of stem and experts to all rows, or to copies."""
    names = [STEM_NAME, *fitted.names]
    if copy == "whole":
        return np.stack([fitted.heads[name].held_out for name in names])
    job = fitted.job
    specs: list[Spec] = [stem_spec(job.spectro), *fitted.specs]
    copies = measure_features(
        job.dataset,
        fitted.features.examples,
        specs,
        segment_s=job.spectro.segment_s,
        cache=job.cache,
        copies=(copy,),
        progress=progress,
    )
    answers = []
    for name, spec in zip(names, specs, strict=True):
        answers.append(fitted.heads[name].answer_copies(copies.table(spec, copy), fitted.targets))
    return np.stack(answers)


def watch(
    fitted: Fitted,
    model: MoE,
    picked: Ints,
    logits: dict[CopyName, Floats],
    progress: Progress,
) -> dict[CopyName, Tensor]:
    """Return the evidence [n, G] of the glance at rows ``picked`` [n] and at their copies.

    The stem's belief in it is the held-out one.
    """
    found: dict[CopyName, list[Tensor]] = {copy: [] for copy in COPIES}
    frontend, first = build_frontend(fitted.job.spectro), 0
    clips = len(np.unique(fitted.features.owners[picked]))
    with one_thread(), torch.inference_mode():
        for done, (pieces, rate_hz, seed) in enumerate(read_pieces(fitted, picked), 1):
            rows = slice(first, first + len(pieces))
            for copy in COPIES:
                heard = [Segment(one, rate_hz, 0) for one in copy_pieces(pieces, copy, seed)]
                own = torch.from_numpy(logits[copy][0, rows]).float()
                found[copy].append(glance_at(model, frontend, heard, own))
            first += len(pieces)
            progress("evidence", done, clips)
    return {copy: torch.cat(parts) for copy, parts in found.items()}


def read_pieces(fitted: Fitted, picked: Ints) -> Iterator[tuple[list[Samples], int, int]]:
    """Yield the segments of each clip that has rows among ``picked``, their rate and its seed."""
    job, owners = fitted.job, fitted.features.owners
    clips = np.unique(owners[picked])
    examples = [fitted.features.examples[clip] for clip in clips]
    for example, clip in load_clips(job.dataset, examples):
        if isinstance(clip, AudioError):
            raise clip  # it was read before
        pieces = cut_training(clip, job.spectro.segment_s)
        yield pieces, clip.sample_rate_hz, seed_of(example)


def glance_at(
    model: MoE, frontend: Frontend, segments: Sequence[Segment], logits: Tensor
) -> Tensor:
    """Return the evidence [n, G] of segments of one clip, with a belief from logits [n, C]."""
    spec = frontend.compress(*measure_segments(segments, frontend))
    output = model.stem(spec)
    belief = model.task.belief(logits)
    cells = saliency_cells(activation_map(model.stem, output, belief), spec)
    return router_of(model).measure_evidence(
        features=output.features, cells=cells, belief=belief, spec=spec
    )


def router_of(model: MoE) -> PromiseRouter:
    """Return the router of a mixture that promises."""
    assert isinstance(model.router, PromiseRouter)
    return model.router


def describe_depths(
    fitted: Fitted, model: MoE, logits: Floats, glance: Tensor
) -> tuple[list[Floats], Floats]:
    """Return evidence [n, G] at each depth, and the mixed answers [K + 1, n, C].

    ``logits`` [1 + E, n, C] are those of stem and experts, ``glance`` [n, G] the first evidence.
    """
    router, said = router_of(model), torch.from_numpy(logits)
    shares = tabulate_shares(fitted.stacks, fitted.names).double()
    evidence, mixed = [glance.double().numpy()], [said[0]]
    for depth in range(1, len(said)):
        own = said[: depth + 1]
        weights = shares[depth, : depth + 1]
        mixed.append(torch.tensordot(weights / weights.sum(), own, dims=1))
        evidence.append(router.renew_evidence(glance, own, mixed[-1]).double().numpy())
    return evidence, torch.stack(mixed).numpy()
