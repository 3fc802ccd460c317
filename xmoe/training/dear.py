"""Pretrained networks as candidates: the variants on offer, and where in a segment they listen.

A network costs tens of times what random kernels do. It is chosen after those, by what it adds to
them, and asked after them, where they leave doubt. For a segment longer than its window it is
offered twice, with all windows and with the most salient alone; what it gains per millisecond on
held-out clips decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.segment import Segment
from xmoe.audio.store import load_clips
from xmoe.backbones.windows import place_windows
from xmoe.base.config import BackboneSpec, SpectroConfig
from xmoe.base.errors import AudioError
from xmoe.base.progress import Progress, silent
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread
from xmoe.glance.kernel_stem import KernelStem
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.policy.records import StackRow
from xmoe.training.heads import HeadFit
from xmoe.training.kernel_features import Features, Source
from xmoe.training.pieces import CopyName, copy_pieces, cut_training, seed_of
from xmoe.training.stack import CHEAP_SE, HeldOut, Selection, select_experts

# In a segment of at least as many windows, half of them are offered too, beside one alone.
MANY_WINDOWS = 4


def list_backbones(offered: Sequence[BackboneSpec], segment_s: float) -> list[BackboneSpec]:
    """The variants of each network ``offered`` that are tried for segments of ``segment_s``."""
    specs = []
    for spec in offered:
        card = spec.card
        words = f"{card.source}, trained on {card.trained_on or 'what its card does not say'}"
        specs.append(spec.model_copy(update={"reason": words}))
        sparse = card.model_copy(update={"hop_s": 2 * card.step_s * card.speed_factor})
        if 1 < len(place_windows(segment_s, sparse)) < len(place_windows(segment_s, card)):
            own = f"{words}; with windows half as dense"
            specs.append(
                spec.model_copy(update={"name": f"{spec.name}-half", "card": sparse, "reason": own})
            )
        fit = round(segment_s / card.span_s)
        counts = [1] if segment_s > card.span_s + card.step_s / 2 else []
        counts += [fit // 2] if fit >= MANY_WINDOWS else []
        for count in counts:
            own = f"{words}; only the {count} most salient windows of {card.span_s:.3g} s"
            changed = {"name": f"{spec.name}-{count}w", "windows": count, "reason": own}
            specs.append(spec.model_copy(update=changed))
    return specs


def look_where(
    source: Source,
    features: Features,
    stem: KernelStem,
    beliefs: Mapping[CopyName, Tensor],
    *,
    spectro: SpectroConfig,
    progress: Progress = silent,
) -> Features:
    """Add to features how salient each moment of their rows is, as the glance finds it.

    ``stem`` is fitted; ``beliefs`` [rows, C] by copy come from held-out answers. Recordings that
    have saliency already are not read. AudioError where one can no longer be read.
    """
    looked = features.looked(*beliefs)
    if looked.all():
        return features
    frontend, first = build_frontend(spectro), 0
    found: dict[CopyName, list[Tensor]] = {copy: [] for copy in beliefs}
    unseen = [features.examples[clip] for clip in np.unique(features.owners[~looked])]
    with one_thread(), torch.inference_mode():
        for done, (example, clip) in enumerate(load_clips(source.dataset, unseen), 1):
            if isinstance(clip, AudioError):
                raise clip  # readable when features were computed, so it has changed since
            pieces = cut_training(clip, source.segment_s)
            rows = slice(first, first + len(pieces))
            for copy, belief in beliefs.items():
                sound = copy_pieces(pieces, copy, seed_of(example))
                segments = [Segment(one, clip.sample_rate_hz, 0) for one in sound]
                spec = frontend.compress(*measure_segments(segments, frontend))
                cam = activation_map(stem, stem(spec), belief[~looked][rows])
                found[copy].append(saliency_cells(cam, spec).sum(1))
            first += len(pieces)
            progress("where to listen", done, len(unseen))
    focus = dict(features.focus)
    for copy, parts in found.items():
        fresh = torch.cat(parts).numpy()
        whole = np.empty((len(looked), fresh.shape[1]), np.float32)
        whole[~looked] = fresh
        if looked.any():
            whole[looked] = focus[copy][looked]
        focus[copy] = whole
    return replace(features, focus=focus)


def fitted_stem(spectro: SpectroConfig, head: HeadFit) -> KernelStem:
    weight, bias = head.sharp_head()
    stem = KernelStem(num_bins=spectro.num_bins, num_classes=len(bias))
    stem.head.weight.copy_(weight.T)
    stem.head.bias.copy_(bias)
    return stem.eval()


def select_in_tiers(
    held: HeldOut, ms: Mapping[str, float], *, dear: Sequence[str], always: Sequence[str]
) -> tuple[Selection, tuple[str, ...], tuple[str, ...]]:
    """Select among the cheap candidates, then those of the ``dear`` that add to them.

    Returns the selection, and the cheap and the dear that were taken, in order.
    """
    cheap = {name: cost for name, cost in ms.items() if name not in dear}
    first = select_experts(held, cheap, always=always, least_se=CHEAP_SE)
    taken = tuple(name for name in first.stack.weights if name not in always)
    if not dear:
        return first, taken, ()
    costs = {name: ms[name] for name in dear}
    return select_beside(held, costs, first.rows, taken, always)


def select_beside(
    held: HeldOut,
    costs: Mapping[str, float],
    rows: Sequence[StackRow],
    taken: Sequence[str],
    always: Sequence[str],
) -> tuple[Selection, tuple[str, ...], tuple[str, ...]]:
    """Select those of ``costs`` that add to what was ``taken``; returns as ``select_in_tiers``.

    ``rows`` are those of earlier candidates; their weights are renewed.
    """
    second = select_experts(held, costs, always=[*always, *taken], at_least=0)
    added = tuple(name for name in second.stack.weights if name in costs)
    weighed = tuple(
        row.model_copy(update={"weight": round(second.stack.weights.get(row.name, 0.0), 4)})
        for row in rows
    )
    later = tuple(
        row.model_copy(update={"place": len(taken) + row.place if row.place else None})
        for row in second.rows
    )
    return second.model_copy(update={"rows": weighed + later}), tuple(taken), added
