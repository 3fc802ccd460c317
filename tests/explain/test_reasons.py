"""What is found out about one clip agrees with what the model itself says."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from xmoe.explain.reasons import find_reasons, judge_maps
from xmoe.explain.targets import ExpertTarget


def test_probabilities_are_calibrated_by_the_number_of_experts(subject, specs):
    plan = subject.model.plan(specs, subject.routing, k=1)
    logits = subject.model.answer(specs, subject.routing, k=1).logits
    expected = torch.softmax(logits / 2.0, 1)  # the temperature of one expert
    torch.testing.assert_close(subject.probabilities(specs, plan), expected)


def test_reasons_hold_the_clip_the_plan_and_every_map(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=2)
    reasons = find_reasons(subject, specs[0], plan=plan, method="gradient_x_input")
    assert set(reasons.maps) == {"gradcam", "saliency", "gradient_x_input"}
    assert all(values.shape == (32, 41) for values in reasons.maps.values())
    assert set(reasons.faithfulness) == {*reasons.maps, "random"}
    assert [name for name, _, _ in reasons.chosen()] == sorted(
        reasons.expert_maps, key=lambda n: -float(plan.weights[0, plan.expert_names.index(n)])
    )
    assert reasons.probabilities.sum() == pytest.approx(1.0)
    assert reasons.target == f"the answer {reasons.classes[reasons.answer_id]!r}"


def test_an_experts_map_stays_where_it_looked(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=3)
    reasons = find_reasons(subject, specs[0], plan=plan)
    low = reasons.expert_maps["low"]
    assert not low[20:].any()  # four rows are sixteen bins; growing reaches four bins further


def test_no_expert_no_expert_map(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=0)
    reasons = find_reasons(subject, specs[0], plan=plan)
    assert (reasons.chosen(), reasons.expert_maps) == ([], {})


def test_another_target_is_named(subject, specs):
    reasons = find_reasons(subject, specs[0], target=ExpertTarget(0, "broadband"))
    assert reasons.target == "the choice of expert 'broadband'"


def test_judging_twice_gives_the_same(subject, specs):
    maps = {"a": specs[0].clamp_min(0)}
    assert judge_maps(subject, specs[0], maps, 0) == judge_maps(subject, specs[0], maps, 0)


def test_an_unknown_method_is_refused_with_those_that_exist(subject, specs):
    with pytest.raises(ValueError, match="gradcam, saliency, gradient_x_input"):
        find_reasons(subject, specs[0], method="tea_leaves")


def test_several_labels_have_probabilities_of_their_own(subject, specs):
    model = copy.deepcopy(subject.model)
    model.config = model.config.model_copy(update={"task": "multi_label"})
    several = dataclasses.replace(subject, model=model)
    plan = model.plan(specs, subject.routing, k=0)
    expected = torch.sigmoid(plan.stem_logits)
    torch.testing.assert_close(several.probabilities(specs, plan), expected)
    assert np.isfinite(find_reasons(several, specs[0]).maps["gradcam"]).all()
