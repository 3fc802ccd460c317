"""Targets score what they name, over their rivals."""

import pytest
import torch

from xmoe.explain.targets import ClassTarget, ExpertTarget, StemTarget, centred
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


def test_mixture_and_stem_have_targets_of_their_own(trace):
    torch.testing.assert_close(ClassTarget(0).score(trace), centred(trace.logits, 0))
    torch.testing.assert_close(StemTarget(0).score(trace), centred(trace.stem.logits, 0))


def test_an_experts_gate_is_centred_over_those_allowed(trace):
    scores = [ExpertTarget(i, "any").score(trace) for i in range(3)]
    torch.testing.assert_close(torch.stack(scores).sum(0), torch.zeros(3), rtol=0, atol=1e-5)


def test_the_gate_of_a_masked_expert_is_no_target(trace):
    with pytest.raises(ValueError, match="masked"):
        ExpertTarget(3, "high_band").score(trace)


def test_targets_say_what_they_are():
    assert ClassTarget(1).describe(CLASSES) == "the answer 'tone'"
    assert StemTarget(2).describe(CLASSES) == "the stem's own answer 'sweep'"
    assert ExpertTarget(0, "low").describe(CLASSES) == "the choice of expert 'low'"
    assert ClassTarget((1, 0, 1)).describe(CLASSES) == "the answer 'tone, click'"
