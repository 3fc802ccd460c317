"""An expert's own map: its gradient is true, it lies where it was heard, and amounts are kept."""

import copy

import numpy as np
import pytest
import torch

from xmoe.explain.maps.own_maps import lay_out, map_hearing, overlap, weigh_pieces
from xmoe.explain.scales import scales_of
from xmoe.explain.targets import ClassTarget
from xmoe.explain.trace import trace_plan


@pytest.fixture
def traced(closed, heard):
    """Return model, plan of both rounds and trace of one clip that asks two experts."""
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=2)
    return closed.model, plan, trace_plan(closed.model, spec[None], plan, sound=sound)


def test_each_expert_that_was_asked_has_a_map_on_its_own_grid(traced, heard):
    model, plan, trace = traced
    maps = map_hearing(model, trace, plan, ClassTarget(1), spread=True, span_s=(2.0, 3.0))[0]
    assert list(maps) == ["first", "second"]
    for name, own in maps.items():
        config = model.config.spec_of(name).spectro
        assert own.spec.shape == own.values.shape == (16, len(own.scales.frame_times_s))
        assert own.values.min() >= 0.0
        assert own.values.max() > 0.0
        assert own.scales.frame_edges_s[0] == 2.0
        assert own.scales.frame_edges_s[-1] == pytest.approx(2.4, abs=config.hop_length / 4000)
        assert np.isfinite(own.spec[:, :10]).all()


def test_only_what_was_sent_is_laid_out(closed, heard):
    spec, sound = heard
    routing = closed.routing.model_copy(update={"window_fraction": 0.3})
    plan, _ = closed.model.prepare(spec[None], routing, sound=sound, k=1)
    trace = trace_plan(closed.model, spec[None], plan, sound=sound)
    own = map_hearing(closed.model, trace, plan, ClassTarget(0), spread=False)[0]["first"]
    seen = np.isfinite(own.spec).any(0)
    sent = sum(end - start for start, end in plan.spans[0, 0].tolist())
    assert seen.sum() * 0.01 == pytest.approx(sent, abs=0.04)
    assert not own.values[:, ~seen].any()


@pytest.mark.parametrize("name", ["first", "second"])
def test_gradients_are_those_of_finite_differences(closed, heard, name):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=2)
    trace = trace_plan(closed.model, spec[None], plan, sound=sound)
    expert = copy.deepcopy(closed.model.experts[name]).double()
    bank = expert.ear.bank
    bank.weights, bank.biases = bank.weights.double(), bank.biases.double()
    (piece,) = (p.detach().double() for p in trace.expert_specs[name][0])

    def say(values):
        return expert.head(bank.measure(values[None]))[0, 1]

    leaf = piece.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(say(leaf), leaf)
    cells = gradient.abs().flatten().argsort(descending=True)[[0, 5, 50, 200]]
    for row, column in (divmod(int(cell), piece.shape[1]) for cell in cells):
        step = torch.zeros_like(piece)
        step[row, column] = 1e-6
        slope = (say(piece + step) - say(piece - step)) / 2e-6
        assert float(gradient[row, column]) == pytest.approx(float(slope), rel=1e-3, abs=1e-9)
    weight = float(plan.weights[0, plan.expert_names.index(name)])
    share = weight * (1.0 - float(plan.stem_share(plan.k)))
    (found,) = torch.autograd.grad(trace.logits[0, 1], trace.expert_specs[name][0])
    torch.testing.assert_close(found.double(), share * gradient, rtol=1e-3, atol=1e-7)


def test_amounts_are_gradient_times_rise_over_the_mean_of_all_pieces():
    one, other = torch.tensor([[1.0, 3.0]]), torch.tensor([[8.0]])
    gradients = [torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5]])]
    values = weigh_pieces([one, other], gradients, spread=False)
    assert [v.tolist() for v in values] == [[[0.0, 0.0]], [[2.0]]]  # the mean is 4
    many = [torch.tensor([[0.0, 2.0, 4.0]])]
    spread = weigh_pieces(many, [torch.tensor([[1.0, 1.0, 1.0]])], spread=True)[0]
    assert spread[0].tolist() == pytest.approx([2.0 / 49] * 3)


def test_a_map_keeps_its_sum_on_a_grid_that_covers_it(closed, traced):
    model, plan, trace = traced
    own = map_hearing(model, trace, plan, ClassTarget(1), spread=True)[0]["first"]
    within = own.scales.bin_edges_hz[1:] < closed.frontend.bin_centers_hz[-1].item()
    own.values[~within] = 0.0
    scales = scales_of(closed.frontend, 41)
    brought = own.bring_to(scales).double().numpy()
    assert brought.shape == (16, 41)
    assert brought.sum() == pytest.approx(own.values.sum(), rel=0.02)
    centre = [
        (values.sum(0) * times).sum() / values.sum()
        for values, times in (
            (own.values, own.scales.frame_times_s),
            (brought, scales.frame_times_s),
        )
    ]
    assert centre[0] == pytest.approx(centre[1], abs=0.01)


def test_cells_give_to_those_that_they_overlap():
    shares = overlap(np.array([0.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0, 9.0]))
    assert shares.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.5, 0.5]]


def test_pieces_lie_side_by_side_and_end_with_the_clip():
    places = [(1, 3), (5, 9)]
    canvas = lay_out([torch.ones(1, 6), torch.ones(1, 9)], places, 7, empty=0.0)
    assert canvas.tolist() == [[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]]
