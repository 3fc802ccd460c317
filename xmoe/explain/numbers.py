"""Reasons -> the numbers of ``explanation.json``, every place in Hz and seconds."""

from __future__ import annotations

from typing import Any

from xmoe.explain.judge import Verdict
from xmoe.explain.places import describe_map
from xmoe.explain.reasons import Array, Reasons, Why
from xmoe.explain.scales import Scales
from xmoe.explain.sentences import say_whys


def to_record(reasons: Reasons) -> dict[str, Any]:
    """Return the explanation of one clip as plain values.

    ``maps`` holds for each method where its peak is, the span and band of the central 90 % of it,
    and deletion and insertion AUC; ``random`` is what random maps score. ``experts`` are those
    that were asked, with band, windows and the share of the window scores in them. ``whys`` answers
    the three questions, each with its own map, verdict and chance. ``voices`` are stem and experts
    where these stand in a fixed order, and ``promises_again`` those of the second round.
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
            name: describe_map(values, reasons.scales) | _faithfulness(reasons.verdicts[name])
            for name, values in reasons.maps.items()
        },
        "random": _faithfulness(reasons.verdicts["random"]),
        "whys": {name: describe_why(why, reasons.scales) for name, why in reasons.whys.items()},
        "sentences": say_whys(reasons),
        "random_windows_probability": reasons.random_windows,
        **describe_voices(reasons),
    }


def describe_voices(reasons: Reasons) -> dict[str, Any]:
    """Return what each voice says alone and what the answer would be without it; empty for a gate.

    Probabilities are those of the answer.
    """
    answer = reasons.answer_id
    if not reasons.asked:
        return {}
    return {
        "voices": [
            {
                "name": voice.name,
                "counts": voice.counts,
                "cost_ms": voice.cost_ms,
                "says": reasons.classes[int(voice.alone.argmax())],
                "alone": float(voice.alone[answer]),
                "answer_without": _class_of(reasons, voice.without),
                "without": None if voice.without is None else float(voice.without[answer]),
            }
            for voice in reasons.asked
        ],
        "first_k": reasons.first_k,
        "promises_again": None if reasons.again is None else reasons.again.tolist(),
    }


def _class_of(reasons: Reasons, probabilities: Array | None) -> str | None:
    return None if probabilities is None else reasons.classes[int(probabilities.argmax())]


def describe_expert(
    reasons: Reasons, name: str, weight: float, windows: list[int]
) -> dict[str, Any]:
    """Return what one expert was asked: weight, band, windows, spans, share of scores."""
    plan = reasons.plan
    index = plan.expert_names.index(name)
    scores = plan.window_scores[0, index]
    share = float(scores[windows].sum() / scores.sum().clamp_min(1e-12))
    return {
        "name": name,
        "weight": weight,
        "gate": float(plan.gate[0, index]),
        "band_hz": list(reasons.bands_hz[name]),
        "windows": windows,
        "spans_s": [list(span) for span in reasons.spans_of(name)],
        "score_share": share,
    }


def describe_why(why: Why, scales: Scales) -> dict[str, Any]:
    """Return the answer to one question: target, method, place, and faithfulness beside chance.

    ``whole`` is the number that is explained, ``silent`` what noise floor alone gives.
    """
    verdict = why.verdict
    return {
        "target": why.target,
        "method": why.method,
        "whole": verdict.whole,
        "silent": verdict.silent,
        "without_strongest_eighth": verdict.first_gone,
        "without_random_eighth": why.random.first_gone,
        "strongest_eighth_alone": verdict.first_shown,
        "random_eighth_alone": why.random.first_shown,
        "explains": verdict.explains(why.random),
        "random": _faithfulness(why.random),
        **describe_map(why.values, scales),
        **_faithfulness(verdict),
    }


def _faithfulness(verdict: Verdict) -> dict[str, float]:
    return {"deletion_auc": verdict.deletion, "insertion_auc": verdict.insertion}
