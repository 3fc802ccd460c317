"""What is found out about one clip agrees with what the model itself says."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from tests.fixtures.mixtures import carry_out
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.reasons import find_reasons
from xmoe.explain.scales import scales_of
from xmoe.explain.targets import ClassTarget


def test_probabilities_are_calibrated_by_the_number_of_experts(subject, specs):
    prepared = subject.model.prepare(specs, subject.routing, k=1)
    logits = carry_out(subject.model, specs, subject.routing, k=1).logits
    expected = torch.softmax(logits / 2.0, 1)  # the temperature of one expert
    torch.testing.assert_close(subject.carry_out(*prepared), expected)


def test_reasons_hold_the_clip_the_plan_and_every_map(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=2)
    reasons = find_reasons(subject, specs[0], plan=plan, method="gradient_x_input")
    assert set(reasons.maps) == {"gradcam", "saliency", "gradient_x_input"}
    assert all(values.shape == (32, 41) for values in reasons.maps.values())
    assert set(reasons.verdicts) == {*reasons.maps, "random"}
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


def test_an_unknown_method_is_refused_with_those_that_exist(subject, specs):
    with pytest.raises(ValueError, match="gradcam, saliency, gradient_x_input, occlusion"):
        find_reasons(subject, specs[0], method="tea_leaves")


def test_several_labels_have_probabilities_of_their_own(subject, specs):
    model = copy.deepcopy(subject.model)
    model.config = model.config.model_copy(update={"task": "multi_label"})
    several = dataclasses.replace(subject, model=model)
    plan, inputs = model.prepare(specs, subject.routing, k=0)
    expected = torch.sigmoid(plan.stem_logits)
    torch.testing.assert_close(several.carry_out(plan, inputs), expected)
    assert np.isfinite(find_reasons(several, specs[0]).maps["gradcam"]).all()


def test_three_questions_have_targets_maps_and_chance_of_their_own(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=1)
    whys = find_reasons(subject, specs[0], plan=plan).whys
    assert list(whys) == ["label", "experts", "k"]
    assert whys["experts"].target.startswith("the choice of ")
    assert whys["k"].target.startswith("K = 1 rather than ")
    assert [why.method for why in whys.values()] == [
        "gradcam",
        "gradient_x_input",
        "gradient_x_input",
    ]
    asked = int(plan.weights[0].argmax())
    assert whys["experts"].verdict.whole == pytest.approx(float(plan.gate[0, asked]), abs=1e-5)
    assert all(why.values.shape == (32, 41) for why in whys.values())
    assert len({why.random.deletion for why in whys.values()}) == 3


def test_the_oracle_answers_all_three_where_it_is_asked(subject, specs):
    whys = find_reasons(subject, specs[0], method="occlusion").whys
    assert [why.method for why in whys.values()] == ["occlusion"] * 3


def test_random_windows_are_tried_only_where_they_differ(subject, specs):
    every = dataclasses.replace(
        subject, routing=subject.routing.model_copy(update={"window_fraction": 1.0})
    )
    plan = subject.model.plan(specs[:1], subject.routing, k=1)
    found = find_reasons(subject, specs[0], plan=plan).random_windows
    assert 0.0 < found < 1.0
    assert find_reasons(every, specs[0]).random_windows is None
    nobody = subject.model.plan(specs[:1], subject.routing, k=0)
    assert find_reasons(subject, specs[0], plan=nobody).random_windows is None


def test_a_run_in_closed_form_is_explained_as_it_answers(closed, heard):
    spec, sound = heard
    first, inputs = closed.model.prepare(spec[None], closed.routing, sound=sound)
    plan, answered = closed.answer(first, inputs)
    reasons = find_reasons(closed, spec, sound=sound)
    assert reasons.probabilities == pytest.approx(answered[0].numpy(), abs=1e-6)
    assert reasons.plan.k.tolist() == plan.k.tolist()
    assert reasons.first_k == int(first.k[0])
    assert "experts" not in reasons.whys
    names = [name for name, _, _ in reasons.chosen()]
    assert set(reasons.own_maps) == set(reasons.expert_maps) == set(names)
    assert [voice.name for voice in reasons.asked[1:]] == list(plan.expert_names[: len(names)])
    assert all(values.shape == spec.shape for values in reasons.expert_maps.values())
    assert reasons.costs == [0.0, 1.0, 3.0, 7.0]
    whole = reasons.verdicts["gradcam"].whole
    assert whole == pytest.approx(reasons.probabilities.max(), abs=1e-3)


def test_a_plan_that_is_given_is_carried_out_as_it_stands(closed, heard):
    spec, sound = heard
    plan, inputs = closed.model.prepare(spec[None], closed.routing, sound=sound, k=1)
    reasons = find_reasons(closed, spec, sound=sound, plan=plan)
    assert reasons.plan.k.tolist() == [1]
    expected = closed.carry_out(plan, inputs)[0].numpy()
    assert reasons.probabilities == pytest.approx(expected, abs=1e-6)
    assert reasons.again is not None


def test_a_network_is_explained_like_any_voice_but_for_its_map(asking, heard):
    spec, sound = heard
    reasons = find_reasons(asking, spec, sound=sound, method="occlusion")
    assert [voice.name for voice in reasons.asked] == ["stem", "first", "second", "third"]
    own = reasons.own_maps["third"]
    assert not own.values.any()
    sent = np.isfinite(own.spec).all(0)
    times = own.scales.frame_times_s
    for start, end in reasons.spans_of("third"):
        assert sent[(times >= start) & (times <= end)].all()
    assert 0.0 < sent.mean() < 0.5
    np.testing.assert_allclose(own.spec[:, sent], spec.numpy()[:, sent], atol=1e-6)
    (windows,) = [windows for name, _, windows in reasons.chosen() if name == "third"]
    assert len(windows) == len(set(windows)) == 2


def test_occlusion_reaches_a_network(asking, heard):
    spec, sound = heard
    alone = asking.model.prepare(spec[None], asking.routing, sound=sound, k=3)[0]
    only = dataclasses.replace(
        alone,
        weights=torch.tensor([[0.0, 0.0, 1.0]]),
        stem_shares=torch.zeros_like(alone.stem_shares),
    )
    heard_whole = MaskableSound.of(asking.frontend, sound, spec.shape[1])
    target = ClassTarget(1)
    found = METHODS["occlusion"](asking.model, spec[None], only, target, heard_whole)[0]
    assert float(found.abs().max()) > 1e-4
    times = torch.from_numpy(scales_of(asking.frontend, spec.shape[1]).frame_times_s)
    spans = only.spans[0, 2]
    far = torch.stack([(times < a - 0.1) | (times > b + 0.1) for a, b in spans]).all(0)
    assert float(found[:, far].abs().max()) < 0.1 * float(found.abs().max())
