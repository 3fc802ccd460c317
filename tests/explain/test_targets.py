"""Targets score what they name, over their rivals."""

import dataclasses

import pytest
import torch

from xmoe.explain.targets import (
    ClassTarget,
    ExpertsTarget,
    KTarget,
    centred,
    choose_experts_target,
    choose_k_target,
)
from xmoe.explain.trace import trace_plan

CLASSES = ("click", "tone", "sweep")


@pytest.fixture
def trace(model, specs, subject):
    return trace_plan(model, specs, model.plan(specs, subject.routing, k=2))


def test_a_class_is_centred_over_all_classes():
    logits = torch.tensor([[1.0, 4.0, 1.0], [0.0, 0.0, 3.0]])
    assert centred(logits, 1).tolist() == [2.0, -1.0]
    assert centred(logits, (1, 2)).tolist() == [2.0, 2.0]


def test_what_raises_all_classes_alike_explains_nothing():
    logits = torch.randn(4, 3)
    torch.testing.assert_close(centred(logits + 7.0, 0), centred(logits, 0))


def test_a_class_target_is_the_mixtures_own(trace):
    torch.testing.assert_close(ClassTarget(0).score(trace), centred(trace.logits, 0))


def test_experts_are_set_against_all_others_that_are_allowed(trace):
    gate = torch.softmax(trace.gate_logits, 1)
    found = ExpertsTarget((0, 2), ("broadband", "transient")).score(trace)
    torch.testing.assert_close(torch.sigmoid(found), gate[:, [0, 2]].sum(1))


@pytest.mark.parametrize(
    ("ids", "words"), [((3,), "masked"), ((0, 1, 2), "all there is"), ((0, 3), "masked")]
)
def test_where_the_gate_has_no_choice_there_is_no_target(trace, ids, words):
    with pytest.raises(ValueError, match=words):
        ExpertsTarget(ids, tuple("abcd"[i] for i in ids)).score(trace)


def test_k_is_set_against_its_rival_at_a_price(trace):
    promises = trace.promises
    found = KTarget(2, 0, 0.03).score(trace)
    torch.testing.assert_close(found, promises[:, 2] - promises[:, 0] - 0.06)


def test_what_is_watched_is_what_the_classifier_says(model, specs, subject):
    plan, inputs = model.prepare(specs, subject.routing)
    said = subject.carry_out(plan, inputs)[:, 1]
    watched = ClassTarget(1).watch(subject, specs)
    torch.testing.assert_close(watched, said, rtol=1e-5, atol=1e-6)
    experts = ExpertsTarget((0, 1), ("broadband", "low"))
    torch.testing.assert_close(experts.watch(subject, specs), plan.gate[:, :2].sum(1))
    margin = KTarget(1, 2, 0.01).watch(subject, specs)
    torch.testing.assert_close(margin, plan.promises[:, 1] - plan.promises[:, 2] + 0.01)


def test_a_plan_names_its_own_targets(model, specs, subject):
    plan = model.plan(specs[:1], subject.routing, k=2)
    asked = {i for i, w in enumerate(plan.weights[0].tolist()) if w > 0}
    assert set(choose_experts_target(plan).expert_ids) == asked
    none = model.plan(specs[:1], subject.routing, k=0)
    assert choose_experts_target(none).expert_ids == (int(none.gate[0].argmax()),)
    everyone = model.plan(specs[:1], subject.routing, k=3)  # the fourth is masked
    assert choose_experts_target(everyone).expert_ids == (int(none.gate[0].argmax()),)


def test_the_rival_is_the_best_other_k_at_the_price(model, specs, subject):
    plan = model.plan(specs[:1], subject.routing, k=1)
    promised = dataclasses.replace(plan, promises=torch.tensor([[0.80, 0.9, 0.85]]))
    cheap = subject.routing.model_copy(update={"k_price": 0.01})
    assert choose_k_target(promised, cheap, 2) == KTarget(1, 2, 0.01)
    dear = subject.routing.model_copy(update={"k_price": 0.06})
    assert choose_k_target(promised, dear, 2) == KTarget(1, 0, 0.06)


def test_one_k_alone_is_no_choice(model, specs, subject):
    plan = dataclasses.replace(
        model.plan(specs[:1], subject.routing, k=0), promises=torch.tensor([[0.9]])
    )
    assert choose_k_target(plan, subject.routing, 2) is None


def test_targets_say_what_they_are():
    assert ClassTarget(1).describe(CLASSES) == "the answer 'tone'"
    assert ExpertsTarget((0,), ("low",)).describe(CLASSES) == "the choice of low"
    several = ExpertsTarget((2, 0, 1), ("high_band", "low", "mid"))
    assert several.describe(CLASSES) == "the choice of high band, low and mid"
    assert KTarget(2, 0).describe(CLASSES) == "K = 2 rather than 0"
    assert ClassTarget((1, 0, 1)).describe(CLASSES) == "the answer 'tone, click'"


def test_costs_in_milliseconds_make_the_price():
    promises = torch.tensor([[0.5, 0.6, 0.9]])
    target = KTarget(2, 0, 0.05, (0.0, 1.0, 5.0))
    assert float(target._margin(promises)) == pytest.approx(0.4 - 0.25)


def test_a_fixed_order_is_priced_within_the_first_round(closed, heard):
    plan, _ = closed.model.prepare(heard[0][None], closed.routing, sound=heard[1])
    promised = dataclasses.replace(plan, promises=torch.tensor([[0.1, 0.5, 0.6, 0.99]]))
    target = choose_k_target(promised.with_counts(torch.tensor([1])), closed.routing, 2)
    assert target == KTarget(1, 2, 0.01, (0.0, 1.0, 3.0))
    always = closed.routing.model_copy(update={"k_price": -1000.0})
    assert choose_k_target(promised, always, 2) is None


def test_who_hears_is_watched_with_the_sound(closed, heard):
    spec, sound = heard
    plan, answered = closed.answer(*closed.model.prepare(spec[None], closed.routing, sound=sound))
    watched = ClassTarget(1).watch(closed, spec[None], sound)
    torch.testing.assert_close(watched, answered[:, 1])
    assert int(plan.k[0]) >= 0
