"""A fitted mixture -> what its router would have known of clips that it was not fitted on.

The glance (front end, stem, saliency, conditions) is computed as in service, clean and under noise;
the experts' answers are the held-out ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.segment import Samples, Segment
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.progress import Progress, silent
from xmoe.base.threads import map_ahead
from xmoe.experts.ridge import Floats, Ints
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.mixture.moe import MoE
from xmoe.mixture.promise_router import STEM_NAME, PromiseRouter, renew_belief
from xmoe.training.closed import Fitted, hears_few
from xmoe.training.dear import fitted_stem, look_where
from xmoe.training.ears import Spec, StemSpec
from xmoe.training.kernel_features import WORKERS, Features, measure_features
from xmoe.training.pieces import CopyName, copy_pieces, cut_training, seed_of, spread
from xmoe.training.promises import COPIES, HeldTable

MOST_CLIPS = 1000  # each costs the features of a noisy copy


def measure_noisy(fitted: Fitted, *, progress: Progress = silent) -> Features:
    """Features of noisy copies of the clips that judge, at most ``MOST_CLIPS`` of them.

    With their saliency, where networks hear salient windows alone.
    """
    clips = np.unique(fitted.features.owners[fitted.targets.judges])
    examples = [fitted.features.examples[clip] for clip in clips]
    known = spread(examples, MOST_CLIPS, fitted.job.seed)
    specs: list[Spec] = [StemSpec(spectro=fitted.job.spectro), *fitted.specs]
    noisy = measure_features(fitted.job.source, known, specs, copies=("noisy",), progress=progress)
    return look_where_noisy(fitted, noisy)


def look_where_noisy(fitted: Fitted, noisy: Features) -> Features:
    """Add to noisy features the saliency that sparse networks need."""
    if not hears_few(fitted.specs):
        return noisy
    job, head, stem = fitted.job, fitted.heads[STEM_NAME], StemSpec(spectro=fitted.job.spectro)
    copies = noisy.table(stem, "noisy")
    logits = head.answer_copies(copies, fitted.features.rows_of(noisy))
    belief = job.task.belief(torch.from_numpy(logits).float())
    own = fitted_stem(job.spectro, head)
    return look_where(job.source, noisy, own, {"noisy": belief}, spectro=job.spectro)


def observe(
    fitted: Fitted,
    model: MoE,
    noisy: Features,
    *,
    before: HeldTable | None = None,
    progress: Progress = silent,
) -> HeldTable:
    """The held-out table of a mixture whose stem is in ``model`` already.

    It holds the clips of ``noisy`` that judge, and their noisy copies. Clips in the table
    ``before`` need no recording: their saliency and conditions are taken from there.
    """
    rows, seen = fitted.features.rows_of(noisy), {} if before is None else before.glances()
    at_hand = {example.clip_id for example in fitted.job.dataset.examples} | seen.keys()
    usable = [example.clip_id in at_hand for example in fitted.features.examples]
    clips = fitted.features.owners[rows]
    kept = np.flatnonzero(fitted.targets.judges[rows] & np.array(usable)[clips])
    picked = rows[kept]
    names = (STEM_NAME, *fitted.names)
    clean = np.stack([fitted.heads[name].held_out[picked] for name in names])
    logits: dict[CopyName, Floats] = {
        "whole": clean,
        "noisy": answer_noisy(fitted, noisy, picked, kept),
    }
    glances = watch(_Watch(fitted, model, picked, seen), logits, progress)
    clips = np.unique(fitted.features.owners[picked])
    return HeldTable(
        names=names,
        logits=np.stack([logits[copy] for copy in COPIES], axis=1),
        glance=np.stack([glances[copy].double().numpy() for copy in COPIES]),
        rows=fitted.targets.rows[picked],
        units=np.unique(fitted.units[picked], return_inverse=True)[1].astype(np.int64),
        clips=np.unique(fitted.features.owners[picked], return_inverse=True)[1].astype(np.int64),
        clip_ids=tuple(fitted.features.examples[clip].clip_id for clip in clips),
        task=fitted.job.task,
    )


def answer_noisy(fitted: Fitted, noisy: Features, picked: Ints, kept: Ints) -> Floats:
    """Held-out logits [1 + E, n, C] of the noisy rows ``kept`` [n], copies of ``picked``."""

    def answer(name: str, spec: Spec) -> Floats:
        table = noisy.table(spec, "noisy")[kept]
        return fitted.heads[name].answer_copies(table, picked)

    stem = answer(STEM_NAME, StemSpec(spectro=fitted.job.spectro))
    return np.stack([stem, *(answer(spec.name, spec) for spec in fitted.specs)])


@dataclass(frozen=True)
class _Watch:
    """Rows ``picked`` [n] to watch; for clips in ``seen`` the evidence [2, r, G] is known."""

    fitted: Fitted
    model: MoE
    picked: Ints
    seen: Mapping[str, Floats]

    def clips(self) -> list[tuple[str, int]]:
        features = self.fitted.features
        clips, counts = np.unique(features.owners[self.picked], return_counts=True)
        ids = [features.examples[clip].clip_id for clip in clips]
        return list(zip(ids, counts.tolist(), strict=True))

    def unseen(self) -> Ints:
        """Rows of clips whose recordings must be read."""
        examples, owners = self.fitted.features.examples, self.fitted.features.owners
        new = [examples[clip].clip_id not in self.seen for clip in owners[self.picked]]
        rows: Ints = self.picked[np.array(new, dtype=bool)]
        return rows


def watch(
    what: _Watch, logits: Mapping[CopyName, Floats], progress: Progress
) -> dict[CopyName, Tensor]:
    """Evidence [n, G] of the glance at rows and at their copies.

    The stem's belief in it is the held-out one.
    """
    model, frontend = what.model, build_frontend(what.fitted.job.spectro)
    clips = what.clips()
    found: list[list[Tensor]] = []

    def list_calls() -> Iterator[Callable[[], list[Tensor]]]:
        sounds, first = read_pieces(what.fitted, what.unseen()), 0
        for clip_id, count in clips:
            rows = slice(first, first + count)
            beliefs = [torch.from_numpy(logits[copy][0, rows]).float() for copy in COPIES]
            if clip_id in what.seen:
                yield partial(recall, beliefs, what.seen[clip_id])
            else:
                yield partial(look, beliefs, *next(sounds))
            first += count

    @torch.inference_mode()
    def look(
        beliefs: Sequence[Tensor], pieces: Sequence[Samples], rate: int, seed: int
    ) -> list[Tensor]:
        copies = [copy_pieces(pieces, copy, seed) for copy in COPIES]
        segments = [[Segment(one, rate, 0) for one in copy] for copy in copies]
        return [glance_at(model, frontend, *pair) for pair in zip(segments, beliefs, strict=True)]

    def recall(beliefs: Sequence[Tensor], known: Floats) -> list[Tensor]:
        glances = torch.from_numpy(known).float()
        own = [model.task.belief(belief) for belief in beliefs]
        pairs = zip(glances, own, strict=True)
        return [renew_belief(glance, belief) for glance, belief in pairs]

    with one_thread():
        calls = map_ahead(lambda call: call(), list_calls(), threads=WORKERS, name="evidence")
        for own in calls:
            found.append(own)
            progress("evidence", len(found), len(clips))
    return {copy: torch.cat([own[place] for own in found]) for place, copy in enumerate(COPIES)}


def read_pieces(fitted: Fitted, picked: Ints) -> Iterator[tuple[list[Samples], int, int]]:
    """Yield the segments of each clip that has rows among ``picked``, their rate and its seed."""
    job, owners = fitted.job, fitted.features.owners
    clips = np.unique(owners[picked])
    examples = [fitted.features.examples[clip] for clip in clips]
    for example, clip in load_clips(job.dataset, examples):
        if isinstance(clip, AudioError):
            raise clip  # readable when features were computed, so it has changed since
        pieces = cut_training(clip, job.spectro.segment_s)
        yield pieces, clip.sample_rate_hz, seed_of(example)


def look_at_copies(
    dataset: Dataset,
    examples: Sequence[Example],
    segment_s: float,
    look: Callable[[list[Segment], int, slice], Tensor],
    *,
    name: str,
    progress: Progress = silent,
) -> Floats:
    """What ``look`` makes [2, n, ...] of the n segments of clips, clean and under noise.

    It is given the segments of one copy of a clip, the copy's place and the segments' rows. Raises
    AudioError for a clip that cannot be read.
    """
    found: list[list[Tensor]] = [[] for _ in COPIES]
    first = 0
    with one_thread(), torch.inference_mode():
        for done, (example, clip) in enumerate(load_clips(dataset, examples), 1):
            if isinstance(clip, AudioError):
                raise clip  # readable when features were computed, so it has changed since
            pieces, rate = cut_training(clip, segment_s), clip.sample_rate_hz
            rows = slice(first, first + len(pieces))
            for place, copy in enumerate(COPIES):
                own = copy_pieces(pieces, copy, seed_of(example))
                found[place].append(look([Segment(one, rate, 0) for one in own], place, rows))
            first = rows.stop
            progress(name, done, len(examples))
    return np.stack([torch.cat(parts).double().numpy() for parts in found])


def glance_at(
    model: MoE, frontend: Frontend, segments: Sequence[Segment], logits: Tensor
) -> Tensor:
    """Evidence [n, G] of segments of one clip, with a belief from logits [n, C]."""
    spec = frontend.compress(*measure_segments(segments, frontend))
    output = model.stem(spec)
    belief = model.task.belief(logits)
    cells = saliency_cells(activation_map(model.stem, output, belief), spec)
    return router_of(model).measure_evidence(
        features=output.features, cells=cells, belief=belief, spec=spec
    )


def router_of(model: MoE) -> PromiseRouter:
    assert isinstance(model.router, PromiseRouter)
    return model.router
