"""An expert's own spectrogram -> what of it spoke for a target, there and on the run's grid.

An expert on sound has bins and frames of its own. A cell of its map is gradient times rise over its
frequency's mean, which is what it adds to the score; so maps of different experts add up on the
run's grid, where each cell gives its amount to those that it overlaps. Values below the mean count
nothing: a quiet place may speak for an answer too, but nothing can be removed there, and with it
maps found events less often and were no more faithful. ``spread`` sums such amounts, of either
sign, over the reach of a kernel, as Grad-CAM would at the kernels' own cells; without it they stay
where the gradient ends, through maxima in few cells. A pretrained network has no gradient: it is
shown on the run's spectrogram, with an empty map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from xmoe.experts.kernel_bank import KERNEL_SIZE
from xmoe.experts.protocol import HearingExpert
from xmoe.experts.sound import Span, merge_spans
from xmoe.explain.maps.gradcam import gradients_of
from xmoe.explain.scales import FROM_START, Scales, scales_of
from xmoe.explain.targets import Target
from xmoe.explain.trace import Trace
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class OwnMap:
    """One expert on one clip, on ``scales`` of its own.

    ``spec`` [F, T] is what it was sent, NaN elsewhere, and ``values`` [F, T] what of it spoke for
    the target.
    """

    spec: Array
    values: Array
    scales: Scales

    def bring_to(self, scales: Scales) -> Tensor:
        """The map on the grid of other scales, [F', T']; what both cover keeps its sum."""
        rows = overlap(self.scales.bin_edges_hz, scales.bin_edges_hz)
        columns = overlap(self.scales.frame_edges_s, scales.frame_edges_s)
        return torch.from_numpy(rows.T @ self.values @ columns).float()


def map_hearing(
    model: MoE,
    trace: Trace,
    plan: Plan,
    target: Target,
    *,
    spread: bool,
    span_s: tuple[float, float] = FROM_START,
) -> list[dict[str, OwnMap]]:
    """For each clip the own maps of the experts on sound that it asks.

    Segments are ``span_s`` of their recording.
    """
    leaves = list(chain.from_iterable(chain.from_iterable(trace.expert_specs.values())))
    gradients = iter(gradients_of(trace, target, leaves))
    found: list[dict[str, OwnMap]] = [{} for _ in range(len(trace.spec))]
    for name, rows in trace.expert_specs.items():
        expert = model.experts[name]
        assert isinstance(expert, HearingExpert)
        frontend, index = expert.frontend, plan.expert_names.index(name)
        rate_hz = frontend.config.frame_rate_hz
        frames = round(plan.window_edges_s[-1] * rate_hz) + 1
        for row, pieces in zip(trace.expert_rows[name].tolist(), rows, strict=True):
            specs = [piece.detach() for piece in pieces]
            values = weigh_pieces(specs, [next(gradients) for _ in specs], spread=spread)
            places = [
                (round(start * rate_hz), round(end * rate_hz) + 1)
                for start, end in merge_spans(plan.spans[row, index].tolist())
            ]
            found[row][name] = OwnMap(
                lay_out(specs, places, frames, empty=float("nan")),
                lay_out(values, places, frames, empty=0.0),
                scales_of(frontend, frames, span_s),
            )
    return found


def show_sent(
    spec: Array, scales: Scales, spans: Sequence[Span], band_hz: tuple[float, float]
) -> OwnMap:
    """What a network without a gradient was sent of a clip's spectrogram [F, T].

    ``spans`` are on the clock of ``scales``. Its map is empty: only occlusion can tell what spoke
    for the answer.
    """
    times, edges = scales.frame_times_s, scales.bin_edges_hz
    sent = np.any([(times >= first) & (times <= last) for first, last in spans], axis=0)
    within = (edges[:-1] < band_hz[1]) & (edges[1:] > band_hz[0])
    shown = np.where(within[:, None] & sent, spec, np.nan)
    return OwnMap(shown, np.zeros_like(spec), scales)


def weigh_pieces(
    specs: Sequence[Tensor], gradients: Sequence[Tensor], *, spread: bool
) -> list[Tensor]:
    """Gradient times the rise, where there is one, over the mean of all pieces [F, T_i]."""
    mean = torch.cat(list(specs), 1).mean(1, keepdim=True)
    values = [g * torch.relu(spec - mean) for spec, g in zip(specs, gradients, strict=True)]
    if spread:
        values = [
            functional.avg_pool2d(value[None], KERNEL_SIZE, 1, KERNEL_SIZE // 2)[0]
            for value in values
        ]
    return [torch.relu(value) for value in values]


def lay_out(
    pieces: Sequence[Tensor], places: Sequence[tuple[int, int]], frames: int, *, empty: float
) -> Array:
    """Pieces [F, T_i] side by side as [F, ``frames``], each in its place of frames.

    Silence that pads a piece to an expert's window is left out.
    """
    canvas = np.full((pieces[0].shape[0], frames), empty)
    for piece, (first, last) in zip(pieces, places, strict=True):
        kept = piece[:, : max(min(last, frames) - first, 0)]
        canvas[:, first : first + kept.shape[1]] = kept.double().cpu().numpy()
    return canvas


def overlap(own: Array, other: Array) -> Array:
    """[n, m]: the share of each cell between edges [n + 1] in each of others [m + 1]."""
    low = np.maximum(own[:-1, None], other[None, :-1])
    high = np.minimum(own[1:, None], other[None, 1:])
    return np.asarray((high - low).clip(0.0) / np.diff(own)[:, None])
