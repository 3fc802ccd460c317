"""The classifier that is explained answers alike in any batch, calibrated by who answered."""

import torch

from xmoe.explain import subject as subjects
from xmoe.mixture.combine import Combined


def test_a_batch_answers_as_its_clips_do(subject, specs, monkeypatch):
    together = subject.probabilities(specs)
    assert together.shape == (3, 3)
    torch.testing.assert_close(together.sum(1), torch.ones(3))
    monkeypatch.setattr(subjects, "BATCH", 2)
    torch.testing.assert_close(subject.probabilities(specs), together)


def test_logits_are_divided_by_the_temperature_of_as_many_experts(subject):
    logits = torch.tensor([[2.0, 0.0, 0.0]]).repeat(3, 1)
    weights = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    combined = Combined(
        logits=logits,
        weights=weights,
        missing=nothing,
        answered=weights > 0,
        gate_mass=logits[:, 0],
    )
    found = subject.calibrate(combined)
    expected = torch.softmax(logits / torch.tensor([[1.0], [2.0], [0.5]]), 1)
    torch.testing.assert_close(found, expected)


def test_routing_alone_is_that_of_the_plan(subject, specs):
    plan = subject.model.plan(specs, subject.routing)
    found = subject.routings(specs)
    torch.testing.assert_close(found.gate, plan.gate)
    torch.testing.assert_close(found.promises, plan.promises)
