"""Sentences hold the numbers of the reasons, and admit where a map explains nothing."""

import dataclasses

import numpy as np
import pytest

from xmoe.explain.judge import Verdict
from xmoe.explain.reasons import find_reasons
from xmoe.explain.show.sentences import (
    say_experts,
    say_k,
    say_label,
    say_place,
    say_whys,
    say_windows,
)


def steps(first, second, rest):
    return (first, second, second, *[rest] * 14)


@pytest.fixture
def reasons(subject, specs):
    """Reasons of K = 1 whose label is explained well: p falls from 0.9 to 0.2."""
    plan = subject.model.plan(specs[:1], subject.routing, k=1)
    found = find_reasons(subject, specs[0], plan=plan)
    good = Verdict(steps(0.9, 0.2, 0.1), steps(0.1, 0.8, 0.9))
    chance = Verdict(steps(0.9, 0.85, 0.3), steps(0.1, 0.3, 0.9))
    for name, why in found.whys.items():
        found.whys[name] = dataclasses.replace(why, verdict=good, random=chance)
    return found


def test_there_is_a_sentence_for_each_question(reasons):
    found = say_whys(reasons)
    assert list(found) == ["label", "experts", "k"]
    assert all(sentence.endswith(".") for sentence in found.values())
    assert found["k"].startswith("K = 1: ")
    assert "windows" in found["k"]


def test_the_label_says_what_is_left_beside_chance(reasons):
    sentence = say_label(reasons)
    assert reasons.classes[reasons.answer_id] in sentence
    assert "p is 0.20 (without a random one 0.85), with that eighth alone 0.80 (0.30)." in sentence
    assert "half of Grad-CAM" in sentence


def test_experts_say_their_share_of_the_gate(reasons):
    asked = reasons.chosen()[0][0].replace("_", " ")
    assert say_experts(reasons).startswith(f"Asked: {asked}, which holds 90% of the gate, because")


def test_k_says_promises_price_and_margin(reasons):
    promised = reasons.plan.promises[0, 1]
    sentence = say_k(reasons)
    assert f"{promised:.3f} promised with 1 expert," in sentence
    assert (
        f"at a price of {reasons.routing.k_price:.3f} per expert the margin is +0.900" in sentence
    )


def test_a_map_no_better_than_chance_is_admitted(reasons):
    why = reasons.whys["label"]
    reasons.whys["label"] = dataclasses.replace(why, verdict=why.random)
    reasons.verdicts["saliency"] = why.random
    sentence = say_label(reasons)
    assert "but Grad-CAM does not show why: without its strongest eighth p is 0.85" in sentence
    assert "router's saliency" not in sentence


def test_where_grad_cam_cannot_say_the_saliency_may(reasons):
    why = reasons.whys["label"]
    reasons.verdicts["saliency"] = why.verdict
    reasons.whys["label"] = dataclasses.replace(why, verdict=why.random)
    sentence = say_label(reasons)
    assert "Grad-CAM does not show why" in sentence
    assert sentence.endswith("with that eighth alone 0.80 (0.30).")
    assert "(half of the router's saliency)" in sentence


def test_a_number_that_ignores_the_clip_is_admitted(reasons):
    still = Verdict((0.97,) * 17, (0.97,) * 17)
    why = reasons.whys["experts"]
    reasons.whys["experts"] = dataclasses.replace(why, verdict=still, random=still)
    assert "hardly depends on this clip: of noise floor alone that share is 97%" in say_experts(
        reasons
    )


@pytest.mark.parametrize(
    ("k", "experts", "windows"),
    [(0, "No expert is asked", "No window is sent."), (3, "Every expert is asked", "Each expert")],
)
def test_none_and_all_have_words_of_their_own(subject, specs, k, experts, windows):
    plan = subject.model.plan(specs[:1], subject.routing, k=k)
    reasons = find_reasons(subject, specs[0], plan=plan)
    assert say_experts(reasons).startswith(experts)
    assert say_windows(reasons).startswith(windows)
    assert ("did not choose" in say_k(reasons)) == (k == 3)  # promises end at two experts


def test_windows_say_how_many_and_what_random_ones_give(reasons):
    keep, total = reasons.plan.spans.shape[2], reasons.plan.num_windows
    sentence = say_windows(reasons)
    assert f"the {keep} of {total} windows with the most saliency" in sentence
    assert f"p is {reasons.random_windows:.2f}" in sentence


def test_a_place_is_the_half_of_a_map(reasons):
    values = np.zeros((32, 41))
    assert say_place(values, reasons.scales) == "nowhere"
    values[9, 20:30] = 1.0
    assert say_place(values, reasons.scales).startswith("0.22-0.27 s and ")


@pytest.fixture
def ordered(closed, heard):
    """Reasons of K = 2 of a mixture whose experts stand in a fixed order."""
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=2)
    return find_reasons(closed, spec, sound=sound, plan=plan)


def test_a_fixed_order_says_what_each_expert_brings(ordered):
    sentence = say_experts(ordered)
    assert sentence.startswith("Asked: the first 2 of 3 experts, in the order in which held-out")
    assert "(3 ms)" in sentence
    answer = ordered.answer_id
    assert f"the stem gives it {ordered.asked[0].alone[answer]:.2f}." in sentence
    left = min(voice.without[answer] for voice in ordered.asked[1:])
    assert f"has p = {left:.2f}, now {ordered.probabilities[answer]:.2f}." in sentence


def test_an_expert_that_the_answer_takes_is_named(ordered):
    without = np.zeros(3)
    without[(ordered.answer_id + 1) % 3] = 1.0
    stem, one, other = ordered.asked
    needed = dataclasses.replace(one, without=without)
    found = say_experts(dataclasses.replace(ordered, asked=(stem, needed, other)))
    instead = ordered.classes[(ordered.answer_id + 1) % 3]
    assert f"It takes first: without it the answer would be {instead}" in found


def test_the_stem_alone_says_so(closed, heard):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=0)
    found = say_experts(find_reasons(closed, spec, sound=sound, plan=plan))
    assert found.startswith("No expert is asked: the stem alone says ")


def test_a_second_round_is_told(ordered):
    assert "at a price of 0.01 per ms, " in say_k(ordered)
    again = np.array([0.0, 0.0, 0.7, 0.9])
    kept = dataclasses.replace(ordered, again=again)
    told = "Once they had answered, 0.700 was promised with 2 and 0.900 with 3, for 4.0 ms more: "
    assert say_k(kept).endswith(f"{told}too little.")
    worse = dataclasses.replace(ordered, again=np.array([0.0, 0.0, 0.7, 0.6]))
    assert say_k(worse).endswith("0.600 with 3, for 4.0 ms more: no more.")
    earlier = dataclasses.replace(kept, first_k=1, again=np.array([0.0, 0.5, 0.7, 0.6]))
    assert say_k(earlier).startswith("K = 1 at first: ")
    assert say_k(earlier).endswith("0.700 with 2, for 2.0 ms more: so 1 more was asked.")


def test_a_run_that_asks_always_says_so(ordered):
    routing = ordered.routing.model_copy(update={"k_price": -1000.0})
    del ordered.whys["k"]
    found = say_whys(dataclasses.replace(ordered, routing=routing))["k"]
    assert "this run asks experts for every clip, whatever they promise." in found
    assert found.endswith("Every expert hears the whole segment.")


def test_a_place_behind_the_end_of_the_recording_says_where_that_is(reasons):
    values = np.zeros((32, 41))
    values[9, 30] = 1.0
    assert "recording ends" not in say_place(values, reasons.scales)
    short = dataclasses.replace(reasons.scales, sound_ends_s=0.2)
    assert say_place(values, short).endswith(", though the recording ends at 0.20 s")
