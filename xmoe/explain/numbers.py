"""Reasons -> the numbers of ``explanation.json``, every place in Hz and seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe.explain.reasons import Reasons
from xmoe.explain.scales import Scales
from xmoe.model.experts import band_rows

CENTRAL = (0.05, 0.95)


def to_record(reasons: Reasons) -> dict[str, Any]:
    """Return the explanation of one clip as plain values.

    ``maps`` holds for each method where its peak is, the span and band of the central 90 % of it,
    and deletion and insertion AUC; ``random`` is what random maps score. ``experts`` are those
    that were asked, with band, windows and the share of the window scores in them.
    """
    plan = reasons.plan
    return {
        "schema_version": 1,
        "target": reasons.target,
        "answer": reasons.classes[reasons.answer_id],
        "probabilities": dict(zip(reasons.classes, reasons.probabilities.tolist(), strict=True)),
        "segment_s": [float(reasons.scales.frame_edges_s[i]) for i in (0, -1)],
        "k": int(plan.k[0]),
        "promises": plan.promises[0].tolist(),
        "gate": dict(zip(plan.expert_names, plan.gate[0].tolist(), strict=True)),
        "num_windows": plan.num_windows,
        "experts": [describe_expert(reasons, *chosen) for chosen in reasons.chosen()],
        "maps": {
            name: describe_map(values, reasons.scales) | _faithfulness(reasons, name)
            for name, values in reasons.maps.items()
        },
        "random": _faithfulness(reasons, "random"),
    }


def describe_expert(
    reasons: Reasons, name: str, weight: float, windows: list[int]
) -> dict[str, Any]:
    """Return what one expert was asked: weight, band, windows, spans, share of scores."""
    plan, scales = reasons.plan, reasons.scales
    index = plan.expert_names.index(name)
    scores = plan.window_scores[0, index]
    share = float(scores[windows].sum() / scores.sum().clamp_min(1e-12))
    return {
        "name": name,
        "weight": weight,
        "gate": float(plan.gate[0, index]),
        "band_hz": list(scales.rows_hz(*band_rows(name, plan.quantised.shape[2]))),
        "windows": windows,
        "spans_s": [list(span) for span in scales.spans_s(windows, plan.window_frames)],
        "score_share": share,
    }


def describe_map(values: npt.NDArray[np.floating], scales: Scales) -> dict[str, Any]:
    """Return peak, span and band of a map [F, T]; empty where the map is zero."""
    total = float(values.sum())
    if total <= 0:
        return {}
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    share = values / total
    return {
        "peak": {
            "time_s": float(scales.frame_times_s[column]),
            "frequency_hz": float(scales.bin_centers_hz[row]),
        },
        "span_s": _central(share.sum(0), scales.frame_edges_s),
        "band_hz": _central(share.sum(1), scales.bin_edges_hz),
    }


def _central(share: npt.NDArray[np.floating], edges: npt.NDArray[np.floating]) -> list[float]:
    """Return between which edges the central 90 % of shares that sum to one lie."""
    running = np.concatenate([[0.0], np.cumsum(share)])
    return [float(np.interp(part, running, edges)) for part in CENTRAL]


def _faithfulness(reasons: Reasons, name: str) -> dict[str, float]:
    deletion, insertion = reasons.faithfulness[name]
    return {"deletion_auc": deletion, "insertion_auc": insertion}
