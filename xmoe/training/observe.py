"""A fitted mixture -> what its router would have known of clips that it was not fitted on.

The glance (front end, stem, saliency, conditions) is made again as it is made in service, clean and
under noise; what experts say are held-out answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.segment import Samples, Segment
from xmoe.audio.store import load_clips
from xmoe.base.config import BackboneSpec
from xmoe.base.errors import AudioError
from xmoe.base.progress import Progress, silent
from xmoe.experts.ridge import Floats, Ints
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.mixture.moe import MoE
from xmoe.mixture.promise_router import STEM_NAME, PromiseRouter
from xmoe.training.closed import Fitted, stem_spec
from xmoe.training.dear import fitted_stem, look_where
from xmoe.training.ears import Spec
from xmoe.training.kernel_features import (
    CopyName,
    copy_pieces,
    cut_training,
    measure_features,
    seed_of,
)
from xmoe.training.promises import COPIES, HeldTable

MOST_CLIPS = 1000


def observe(fitted: Fitted, model: MoE, *, progress: Progress = silent) -> HeldTable:
    """Return the held-out table of a mixture whose stem is in ``model`` already."""
    picked = pick_rows(fitted)
    names = (STEM_NAME, *fitted.names)
    clean = np.stack([fitted.heads[name].held_out[picked] for name in names])
    logits: dict[CopyName, Floats] = {
        "whole": clean,
        "noisy": answer_noisy(fitted, picked, progress),
    }
    glances = watch(fitted, model, picked, logits, progress)
    return HeldTable(
        names=names,
        logits=np.stack([logits[copy] for copy in COPIES], axis=1),
        glance=np.stack([glances[copy].double().numpy() for copy in COPIES]),
        rows=fitted.targets.rows[picked],
        units=np.unique(fitted.units[picked], return_inverse=True)[1].astype(np.int64),
        clips=np.unique(fitted.features.owners[picked], return_inverse=True)[1].astype(np.int64),
        task=fitted.job.task,
    )


def pick_rows(fitted: Fitted) -> Ints:
    """Return rows of clips that judge: all of them, or as many as can be watched."""
    owners = fitted.features.owners
    clips = np.unique(owners[fitted.targets.judges])
    if len(clips) > MOST_CLIPS:
        kept = np.random.default_rng(fitted.job.seed).permutation(clips)[:MOST_CLIPS]
        clips = np.sort(kept)
    return np.flatnonzero(np.isin(owners, clips))


def answer_noisy(fitted: Fitted, picked: Ints, progress: Progress) -> Floats:
    """Return held-out logits [1 + E, n, C] of noisy copies of the rows ``picked`` [n]."""
    job = fitted.job
    clips = np.unique(fitted.features.owners[picked])
    specs: list[Spec] = [stem_spec(job.spectro), *fitted.specs]
    known = [fitted.features.examples[clip] for clip in clips]
    copies = measure_features(job.source, known, specs, copies=("noisy",), progress=progress)

    def answer(name: str, spec: Spec) -> Floats:
        table = copies.table(spec, "noisy")
        return fitted.heads[name].answer_copies(table, fitted.targets, picked)

    answers = [answer(STEM_NAME, specs[0])]
    if any(isinstance(spec, BackboneSpec) and spec.windows for spec in fitted.specs):
        belief = job.task.belief(torch.from_numpy(answers[0]).float())
        stem = fitted_stem(job.spectro, fitted.heads[STEM_NAME])
        copies = look_where(job.source, copies, stem, {"noisy": belief}, spectro=job.spectro)
    answers += [answer(spec.name, spec) for spec in fitted.specs]
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
