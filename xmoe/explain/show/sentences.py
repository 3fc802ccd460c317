"""Reasons -> three plain sentences with their numbers: why this label, these experts, this K.

A sentence says what the clip gives, where the evidence lies, and what is left once the strongest
eighth of the map is filled with noise floor, or all but that eighth, beside a random eighth. Where
the map does no better than chance, or the number hardly depends on the clip, it says that instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from xmoe.base.units import format_hz
from xmoe.explain.reasons import Reasons, Why
from xmoe.explain.scales import Scales, describe_map
from xmoe.explain.targets import ExpertsTarget, KTarget

METHOD_WORDS = {
    "gradcam": "Grad-CAM",
    "saliency": "the router's saliency",
    "gradient_x_input": "gradient x input",
    "occlusion": "occlusion",
}
SELECTOR_WORDS = {
    "saliency": "saliency",
    "cam": "class activation",
    "feature": "feature energy",
    "energy": "energy",
    "random": "random score",
}
LEAST_EFFECT = 0.02  # of a probability or share; less hardly depends on the clip
LEAST_MARGIN = 0.005  # the same of a margin of promises
LEAST_MISSED = 0.005  # of a probability; an expert that changes less is not missed


def say_whys(reasons: Reasons) -> dict[str, str]:
    """A sentence for each question: label, experts, k (windows included)."""
    return {
        "label": say_label(reasons),
        "experts": say_experts(reasons),
        "k": f"{say_k(reasons)} {say_windows(reasons)}",
    }


def say_label(reasons: Reasons) -> str:
    """Why this label; where the method asked for cannot say, the router's saliency may."""
    why = reasons.whys["label"]
    probability = float(reasons.probabilities[reasons.answer_id])
    answer = reasons.classes[reasons.answer_id]
    lead = f"The answer is {answer} (p = {probability:.2f})"
    sentence = f"{lead} {_say_evidence(reasons, why, 'p', '{:.2f}'.format)}"
    other = reasons.verdicts["saliency"]
    if why.verdict.explains(why.random) or not other.explains(why.random):
        return sentence
    saliency = replace(why, method="saliency", values=reasons.maps["saliency"], verdict=other)
    return f"{sentence} It is {answer} {_say_evidence(reasons, saliency, 'p', '{:.2f}'.format)}"


def say_experts(reasons: Reasons) -> str:
    if reasons.asked:
        return say_voices(reasons)
    why, plan = reasons.whys["experts"], reasons.plan
    gate = why.verdict.whole
    assert isinstance(why.aim, ExpertsTarget)
    favourite = why.aim.words
    asked = len(reasons.chosen())
    if not asked:
        lead = f"No expert is asked; the gate's favourite is {favourite} ({gate:.0%} of the gate)"
    elif asked == int((plan.gate[0] > 0).sum()):
        lead = f"Every expert is asked; the gate's favourite is {favourite} ({gate:.0%} of it)"
    else:
        verb = "hold" if asked > 1 else "holds"
        lead = f"Asked: {favourite}, which {verb} {gate:.0%} of the gate,"
    return f"{lead} {_say_evidence(reasons, why, 'that share', '{:.0%}'.format)}"


def say_voices(reasons: Reasons) -> str:
    """Why these experts, in a fixed order: what each of them contributes."""
    answer = reasons.answer_id
    name, total = reasons.classes[answer], len(reasons.plan.expert_names)
    stem, *experts = reasons.asked
    if not experts:
        return f"No expert is asked: the stem alone says {name} (p = {stem.alone[answer]:.2f})."
    spent = sum(voice.cost_ms for voice in experts)
    first = f"first {len(experts)}" if len(experts) > 1 else "first"
    who = f"the {first} of {total} experts" if len(experts) < total else "all experts"
    lead = f"Asked: {who}, in the order in which held-out clips chose them ({spent:.0f} ms)."
    alone = [float(voice.alone[answer]) for voice in experts]
    agree = sum(int(voice.alone.argmax()) == answer for voice in experts)
    say = "says" if agree == 1 else "say"
    spread = f"(p from {min(alone):.2f} to {max(alone):.2f})"
    said = f"Alone, {agree} of {len(experts)} {say} {name} {spread}"
    if len(experts) == 1:
        said = f"Alone it gives {name} p = {alone[0]:.2f}"
    return f"{lead} {said}; the stem gives it {stem.alone[answer]:.2f}. {_say_without(reasons)}"


def _say_without(reasons: Reasons) -> str:
    answer = reasons.answer_id
    others = [(voice.name, voice.without) for voice in reasons.asked[1:]]
    needed, left = min(
        ((name, left) for name, left in others if left is not None),
        key=lambda pair: float(pair[1][answer]),
    )
    name, who, now = reasons.classes[answer], needed.replace("_", " "), reasons.probabilities
    p = f"p = {left[answer]:.2f}, now {now[answer]:.2f}"
    if int(left.argmax()) != answer:
        other = reasons.classes[int(left.argmax())]
        return f"It takes {who}: without it the answer would be {other}, and {name} has {p}."
    if len(others) == 1:
        return f"Without {who} {name} has {p}."
    if left[answer] > now[answer] - LEAST_MISSED:
        return f"No expert would be missed: without any one of them {name} has at least {p}."
    return f"No expert decides alone; most missed would be {who}: without it {name} has {p}."


def say_k(reasons: Reasons) -> str:
    k, promises = reasons.first_k, reasons.plan.promises[0].tolist()
    why = reasons.whys.get("k")
    if why is None or not isinstance(why.aim, KTarget):
        if reasons.asked and reasons.routing.asks_all:
            total = int(reasons.plan.k[0])
            return f"K = {total}: this run asks experts for every clip, whatever they promise."
        return f"K = {k}, which the router did not choose."
    rival = why.aim.rival
    then = " at first" if int(reasons.plan.k[0]) > k else ""
    lead = f"K = {k}{then}: {_promise(promises, k)}, {_promise(promises, rival)} (the next best)"
    fixed = " (K was asked for, not chosen)" if why.verdict.whole < 0 else ""
    price = f"{_say_price(reasons, k, rival)} the margin is {why.verdict.whole:+.3f}{fixed}"
    evidence = _say_evidence(reasons, why, "the margin", "{:+.3f}".format)
    return f"{lead}; {price} {evidence}{_say_again(reasons)}"


def _say_price(reasons: Reasons, k: int, rival: int) -> str:
    price = reasons.routing.k_price
    if not reasons.routing.costs_ms:
        return f"at a price of {price:.3f} per expert"
    apart = abs(reasons.costs[k] - reasons.costs[rival])
    return f"at a price of {price:.2g} per ms, {apart:.1f} ms apart,"


def _say_again(reasons: Reasons) -> str:
    """What came of the second round; empty where there was none."""
    if reasons.again is None:
        return ""
    first, last = reasons.first_k, int(reasons.plan.k[0])
    promised = [float(value) for value in reasons.again]
    worth = [
        value - reasons.routing.k_price * cost if k != first and k > first else float("-inf")
        for k, (value, cost) in enumerate(zip(promised, reasons.costs, strict=True))
    ]
    other = last if last > first else int(np.argmax(worth))
    seen = f"{promised[first]:.3f} was promised with {first} and {promised[other]:.3f} with {other}"
    more = other - first
    paid = f"for {reasons.costs[other] - reasons.costs[first]:.1f} ms more"
    end = "too little" if promised[other] > promised[first] else "no more"
    if last > first:
        end = f"so {more} more {'were' if more > 1 else 'was'} asked"
    heard = "it" if first == 1 else "they"
    return f" Once {heard} had answered, {seen}, {paid}: {end}."


def say_windows(reasons: Reasons) -> str:
    plan, chosen = reasons.plan, reasons.chosen()
    if not chosen:
        return "No window is sent."
    keep, total = plan.spans.shape[2], plan.num_windows
    if keep == total and reasons.own_maps:
        return _say_heard(reasons)
    if keep == total:
        return f"Every expert is sent all {total} windows of its band."
    scores = plan.window_scores[0].cpu()
    weights = plan.weights[0].cpu()
    sent = scores.gather(1, plan.windows[0].cpu()).sum(1) / scores.sum(1).clamp_min(1e-12)
    share = float((sent * weights).sum())
    what = SELECTOR_WORDS.get(reasons.routing.selector, reasons.routing.selector)
    answer = float(reasons.probabilities[reasons.answer_id])
    return (
        f"Each expert is sent the {keep} of {total} windows with the most {what}, {share:.0%} of "
        f"it; with random windows instead p is {reasons.random_windows:.2f} (now {answer:.2f})."
    )


def _say_heard(reasons: Reasons) -> str:
    """Which experts get the whole segment, and what the others get of it."""
    total = reasons.plan.num_windows
    few = [name for name, _, windows in reasons.chosen() if len(windows) < total]
    if not few:
        return "Every expert hears the whole segment."
    parts = []
    for name in few:
        heard = [(a, min(b, reasons.scales.sound_ends_s)) for a, b in reasons.spans_of(name)]
        spans = " and ".join(f"{a:.2f}-{b:.2f} s" for a, b in sorted(heard) if a < b)
        parts.append(f"{name.replace('_', ' ')} hears what stands out most, {spans}")
    others = "the others hear" if len(few) < len(reasons.chosen()) else "no expert hears"
    return f"Where: {'; '.join(parts)}; {others} the whole segment."


def say_place(values: npt.NDArray[np.floating], scales: Scales) -> str:
    """Where the central half of a map [F, T] lies, in seconds and Hz."""
    found = describe_map(values, scales)
    if not found:
        return "nowhere"
    low, high = found["half"]["band_hz"]
    start, end = found["half"]["span_s"]
    low_hz, high_hz = (float(f"{hertz:.3g}") for hertz in (low, high))
    place = f"{start:.2f}-{end:.2f} s and {format_hz(low_hz)} - {format_hz(high_hz)}"
    if scales.is_cut_short and end > scales.sound_ends_s:
        return f"{place}, though the recording ends at {scales.sound_ends_s:.2f} s"
    return place


def _say_evidence(reasons: Reasons, why: Why, what: str, say: Callable[[float], str]) -> str:
    verdict, random = why.verdict, why.random
    least = LEAST_MARGIN if why is reasons.whys.get("k") else LEAST_EFFECT
    if max(verdict.reach, random.reach) < least:
        alone = say(verdict.silent)
        return f"and hardly depends on this clip: of noise floor alone {what} is {alone}."
    if not verdict.explains(random):
        return (
            f"but {METHOD_WORDS[why.method]} does not show why: without its strongest eighth "
            f"{what} is {say(verdict.first_gone)}, without a random one {say(random.first_gone)}."
        )
    return (
        f"because of {say_place(why.values, reasons.scales)} (half of {METHOD_WORDS[why.method]}): "
        f"without its strongest eighth {what} is {say(verdict.first_gone)} (without a random one "
        f"{say(random.first_gone)}), with that eighth alone {say(verdict.first_shown)} "
        f"({say(random.first_shown)})."
    )


def _promise(promises: list[float], k: int) -> str:
    return f"{promises[k]:.3f} promised with {k or 'no'} expert{'' if k == 1 else 's'}"
