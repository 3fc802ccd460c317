"""Reasons -> the numbers of ``explanation.json``, every place in Hz and seconds."""

from __future__ import annotations

from typing import Any

from xmoe.explain.judge import Verdict
from xmoe.explain.reasons import Reasons, Why
from xmoe.explain.scales import Scales, describe_map
from xmoe.explain.show.sentences import say_whys


def to_record(reasons: Reasons) -> dict[str, Any]:
    """The explanation of one clip as plain values.

    ``maps`` holds for each method the peak, the span and band of its central 90 %, and deletion and
    insertion AUC; ``random`` what random maps score. ``experts`` are those that were asked, with
    band, windows and their share of the window scores. ``whys`` answers the three questions, each
    with its own map, verdict and chance. Where ``sound_ends_s`` is before the end of ``segment_s``,
    the recording is shorter than a segment. ``voices`` are stem and experts where these stand in a
    fixed order, and ``promises_again`` those of the second round.
    """
    plan = reasons.plan
    scales = reasons.scales
    segment_s = [float(scales.frame_edges_s[i]) for i in (0, -1)]
    return {
        "schema_version": 1,
        "target": reasons.target,
        "answer": reasons.classes[reasons.answer_id],
        "probabilities": dict(zip(reasons.classes, reasons.probabilities.tolist(), strict=True)),
        "segment_s": segment_s,
        "sound_ends_s": scales.sound_ends_s if scales.is_cut_short else segment_s[1],
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
    """What each voice says alone and the answer without it; empty for a gate.

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
                "answer_without": None
                if voice.without is None
                else reasons.classes[int(voice.without.argmax())],
                "without": None if voice.without is None else float(voice.without[answer]),
            }
            for voice in reasons.asked
        ],
        "first_k": reasons.first_k,
        "promises_again": None if reasons.again is None else reasons.again.tolist(),
    }


def describe_expert(
    reasons: Reasons, name: str, weight: float, windows: list[int]
) -> dict[str, Any]:
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
    """The answer to one question: target, method, place, and faithfulness beside chance.

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
