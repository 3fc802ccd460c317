"""Plans with limits and without lost experts, against the planner's own choice."""

import pytest
import torch

from xmoe.serve.router.replan import lost_mass, slice_rows, without_experts

RATE_HZ = 8000


@pytest.fixture(scope="module")
def specs(in_process, sound):
    return torch.cat([in_process.hear(sound(seed=s), RATE_HZ)[0] for s in range(4)])


def test_lost_experts_are_replaced_by_the_next(in_process, specs):
    plan = in_process.model.plan(specs, in_process.config.routing, k=1)
    lost = plan.expert_names[int(plan.weights[0].argmax())]
    other = without_experts(plan, {lost})
    assert other.k.tolist() == [1, 1, 1, 1]
    assert float(other.weights[:, plan.expert_names.index(lost)].sum()) == 0.0
    second = plan.gate[0].argsort(descending=True)[1]
    assert int(other.weights[0].argmax()) == int(second)


def test_only_marked_rows_change(in_process, specs):
    plan = in_process.model.plan(specs, in_process.config.routing, k=2)
    rows = torch.tensor([True, False, False, False])
    other = without_experts(plan, {"low", "broadband"}, rows)
    assert torch.equal(other.weights[1:], plan.weights[1:])
    assert other.weights[0].tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0])


def test_lost_mass_is_the_planned_weight(in_process, specs):
    plan = in_process.model.plan(specs, in_process.config.routing, k=3)
    assert lost_mass(plan, plan.expert_names).tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(lost_mass(plan, ["low"]), plan.weights[:, plan.expert_names.index("low")])


def test_slice_is_the_plan_of_its_rows(in_process, specs):
    plan = in_process.model.plan(specs, in_process.config.routing)
    part = slice_rows(plan, 1, 3)
    alone = in_process.model.plan(specs[1:3], in_process.config.routing)
    assert torch.allclose(part.weights, alone.weights, atol=1e-5)
    assert torch.equal(part.spans, alone.spans)
