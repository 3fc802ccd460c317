"""Saliency: closed form against autograd, grids against loops, and no backward pass."""

import math

import pytest
import torch
from torch import nn

from xmoe.base.task import TASKS, SingleLabel
from xmoe.glance.saliency import (
    activation_map,
    contrast,
    evidence_weight,
    pool_cells,
    saliency_cells,
    saliency_map,
    smooth_cells,
    strength_of,
)
from xmoe.glance.stem import Stem


@pytest.fixture(scope="module")
def stem() -> Stem:
    """Return a stem whose head is centred over classes, so that centring changes nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = Stem(num_bins=32, channels=8, num_classes=4)
        nn.init.normal_(made.head.weight)
    with torch.no_grad():
        made.head.weight -= made.head.weight.mean(0, keepdim=True)
        made.log_sharpness.fill_(0.7)
    return made.eval()


def gradient_times_input(stem: Stem, spec: torch.Tensor, belief: torch.Tensor) -> torch.Tensor:
    """Return rows per band times (gradient x the stem map's rise over its mean), by autograd."""
    features = stem.map_features(spec).detach().requires_grad_()
    (stem.answer(features).logits * belief).sum().backward()
    rise = features - features.mean(3, keepdim=True)
    return (rise * features.grad).sum(1).detach() * (features.shape[2] // 4)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_closed_form_is_gradient_times_input_at_the_stem_map(stem, specs, task):
    output = stem(specs)
    belief = task.belief(output.logits).detach()
    closed = activation_map(stem, output, belief)
    assert closed.shape == (3, 8, 11)
    torch.testing.assert_close(closed, gradient_times_input(stem, specs, belief))


def test_closed_form_of_one_class_is_that_class(stem, specs):
    belief = torch.zeros(3, 4)
    belief[:, 2] = 1.0
    closed = activation_map(stem, stem(specs), belief)
    torch.testing.assert_close(closed, gradient_times_input(stem, specs, belief))


def test_map_of_a_clip_sums_to_its_belief_weighted_evidence(stem, specs):
    output = stem(specs)
    belief = SingleLabel().belief(output.logits)
    usual = output.column_logits.mean(2, keepdim=True)
    rise = output.attention * (output.column_logits - usual)
    evidence = (belief.unsqueeze(2) * rise).sum((1, 2))
    torch.testing.assert_close(activation_map(stem, output, belief).sum((1, 2)) / 2, evidence)


def test_what_is_there_all_the_time_is_no_evidence(stem):
    tone = torch.zeros(1, 32, 41)
    tone[0, 9] = 3.0
    output = stem(tone)
    cam = activation_map(stem, output, SingleLabel().belief(output.logits)).detach()
    assert float(cam[..., 2:-2].std(2).max()) < 1e-5  # the edges hear the padding


def test_what_raises_all_classes_alike_is_no_evidence(stem, specs):
    common = Stem(num_bins=32, channels=8, num_classes=4).eval()
    common.load_state_dict(stem.state_dict())
    with torch.no_grad():
        common.head.weight.copy_(stem.head.weight[:1].expand(4, -1))
    with torch.no_grad():
        output = common(specs)
    cam = activation_map(common, output, SingleLabel().belief(output.logits))
    assert float(cam.detach().abs().max()) < 1e-6


def slow_contrast(spec):
    """Follow the docstring cell by cell; spec is [F, T]."""
    bins, frames = spec.shape
    means, step = spec.mean(1), bins // 16
    rise = torch.zeros(bins, frames)
    for row in range(bins):
        near = [min(max(row + step * k, 0), bins - 1) for k in range(-4, 5)]
        floor = min(float(means[row]), sorted(float(means[i]) for i in near)[4])
        for frame in range(frames):
            around = spec[row, max(frame - 4, 0) : frame + 4]
            rise[row, frame] = max(0.0, float(around.mean()) - floor) ** 3
    return rise + 0.5 * rise.mean()


@pytest.mark.parametrize("frames", [1, 2, 5, 9, 23])
def test_contrast_equals_a_slow_loop(frames):
    spec = torch.randn(2, 16, frames, generator=torch.Generator().manual_seed(frames))
    slow = torch.stack([slow_contrast(clip) for clip in spec])
    torch.testing.assert_close(contrast(spec), slow, atol=1e-5, rtol=1e-5)


def test_a_line_that_sounds_all_through_stands_out_from_its_neighbours():
    spec = torch.zeros(1, 32, 40)
    spec[0, 9] = 3.0
    rise = contrast(spec)[0]
    least = 0.5 * 27.0 / 32
    torch.testing.assert_close(rise[9], torch.full((40,), 27.0 + least))
    torch.testing.assert_close(rise.sum(), torch.tensor((27.0 + 32 * least) * 40))


def test_where_nothing_stands_out_the_model_alone_orders_the_cells():
    spec, cam = torch.zeros(1, 32, 40), torch.rand(1, 8, 10)
    spec[0, 9] = 3.0
    quiet = saliency_map(cam, spec)[0, 20:]
    even = saliency_map(torch.ones(1, 8, 10), spec)[0, 20:]
    assert float(even.std()) < 1e-5 < float(even.min())
    assert float(quiet.std()) > 0.1 * float(quiet.mean())


def test_a_clip_in_which_nothing_rises_has_no_contrast():
    assert float(contrast(torch.full((1, 16, 9), 2.5)).max()) == 0.0


@pytest.mark.parametrize("frames", range(1, 14))
def test_pooled_cells_equal_a_slow_loop_with_a_ragged_end(frames):
    values = torch.rand(2, 16, frames, generator=torch.Generator().manual_seed(frames))
    columns = -(-frames // 4)
    pooled = pool_cells(values, torch.Size((4, columns)))
    assert pooled.shape == (2, 4, columns)
    for clip in range(2):
        for row in range(4):
            for column in range(columns):
                cell = values[clip, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                assert float(pooled[clip, row, column]) == pytest.approx(
                    float(cell.mean()), abs=1e-6
                )


def softplus(value):
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)


def test_cells_are_the_weighed_map_times_pooled_contrast():
    spec = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    cam = torch.full((1, 4, 2), -1.0)
    cam[0, 0] = 3.0
    smooth = [1.0, 1.0 / 3.0, -1.0, -1.0]  # means of rows 3, -1, -1, -1 and their neighbours
    strength = (sum(value**2 for value in smooth) / 4.0) ** 0.5
    weights = torch.tensor([softplus(12.0 * value / strength) for value in smooth])
    pooled = pool_cells(contrast(spec), torch.Size((4, 2)))
    torch.testing.assert_close(saliency_cells(cam, spec), weights[None, :, None] * pooled)


def test_cells_are_smoothed_over_their_neighbours_and_edges_over_fewer():
    cam = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    smooth = smooth_cells(cam)
    for clip, row, column in [(0, 0, 0), (1, 3, 4), (0, 2, 0), (1, 1, 2)]:
        around = cam[clip, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert float(smooth[clip, row, column]) == pytest.approx(float(around.mean()), abs=1e-6)


@pytest.mark.parametrize("frames", [1, 3, 8, 41])
def test_map_has_the_spectrograms_grid_and_is_never_negative(frames):
    generator = torch.Generator().manual_seed(frames)
    spec = torch.randn(2, 32, frames, generator=generator)
    cam = torch.randn(2, 8, -(-frames // 4), generator=generator)
    grown = saliency_map(cam, spec)
    assert grown.shape == (2, 32, frames)
    assert float(grown.min()) >= 0.0


def test_map_under_an_even_activation_has_the_shares_of_the_contrast(specs):
    grown, rise = saliency_map(torch.zeros(3, 8, 11), specs), contrast(specs)
    torch.testing.assert_close(
        grown / grown.sum((1, 2), keepdim=True), rise / rise.sum((1, 2), keepdim=True)
    )


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_unit_of_the_activation_does_not_matter(specs, scale):
    cam = torch.randn(3, 8, 11, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(saliency_map(scale * cam, specs), saliency_map(cam, specs))


def test_map_peaks_where_activation_and_contrast_meet():
    spec, cam = torch.zeros(1, 32, 40), torch.zeros(1, 8, 10)
    spec[0, 8:12, 20:24] = spec[0, 8:12, 4:8] = 5.0
    cam[0, 2, 5] = cam[0, 6, 8] = 1.0
    row, column = divmod(int(saliency_map(cam, spec).argmax()), 40)
    assert (row in range(8, 12), column in range(20, 24)) == (True, True)


def test_evidence_against_the_answer_is_nearly_silent_and_still_in_order():
    cam = torch.tensor([[[-1.2, -1.0, -0.8, 0.0, 0.5, 1.0]]])
    weights = evidence_weight(cam, strength_of(cam)).flatten()
    assert bool((weights.diff() > 0).all())
    assert float(weights[0]) > 0.0
    assert float(weights[2]) < float(weights[5]) / 1000.0
    assert float(weights[5] / weights[4]) == pytest.approx(2.0, rel=0.01)


def test_a_map_without_any_evidence_is_even():
    flat = torch.zeros(1, 8, 11)
    assert float(evidence_weight(flat, strength_of(flat)).std()) == 0.0


def test_saliency_needs_no_backward_pass(model, specs):
    live = model.glance(specs)
    assert live.stem.logits.requires_grad
    assert not live.cam.requires_grad
    assert not live.cells.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(model.glance(specs).cells, live.cells)


def test_contrast_first_seen_in_inference_mode_can_be_learned_from():
    spec = torch.randn(1, 16, 37, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        seen = contrast(spec).clone()
    spec.requires_grad_()
    again = contrast(spec)
    again.sum().backward()
    assert torch.equal(again.detach(), seen)
    assert float(spec.grad.abs().sum()) > 0
