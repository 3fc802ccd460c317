"""Boxes become masks of cells; perfect, blind and random maps score what they must."""

import numpy as np
import pytest
import torch

from benchmarks.localise import box_mask, energy_in_box, map_batches, pointing_game, score_maps
from xmoe.audio.synth_events import EventBox
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import Scales, edges_between
from xmoe.explain.targets import ClassTarget


@pytest.fixture
def scales():
    """Eight bins 100 Hz apart from 100 Hz, twenty frames of 0.01 s."""
    centers, times = np.arange(1, 9) * 100.0, np.arange(20) * 0.01
    edges = np.append(times - 0.005, times[-1] + 0.005)
    return Scales(centers, edges_between(centers), times, edges)


def test_a_box_covers_the_cells_that_it_touches(scales):
    mask = box_mask([EventBox("tone", 0.05, 0.09, 260.0, 420.0)], scales)
    rows, columns = mask.any(1).nonzero().squeeze(1), mask.any(0).nonzero().squeeze(1)
    assert rows.tolist() == [2, 3]  # 250-350 and 350-450 Hz
    assert columns.tolist() == [5, 6, 7, 8, 9]
    assert int(mask.sum()) == 10


def test_a_line_thinner_than_a_bin_still_has_a_row(scales):
    mask = box_mask([EventBox("tone", 0.0, 0.2, 301.0, 302.0)], scales)
    assert mask.any(1).nonzero().squeeze(1).tolist() == [2]


def test_boxes_add_up(scales):
    boxes = [EventBox("a", 0.0, 0.01, 100, 101), EventBox("b", 0.1, 0.11, 700, 701)]
    assert int(box_mask(boxes, scales).sum()) == 2 + 2


def box():
    mask = torch.zeros(1, 8, 10, dtype=torch.bool)
    mask[0, 2:4, 5:10] = True
    return mask  # an eighth of all cells


def test_the_pointing_game_asks_where_the_peak_is():
    hit, miss = torch.zeros(1, 8, 10), torch.zeros(1, 8, 10)
    hit[0, 3, 7], miss[0, 4, 7] = 1.0, 1.0
    assert pointing_game(torch.cat([hit, miss]), box().expand(2, -1, -1)).tolist() == [1.0, 0.0]


def test_a_flat_map_points_as_well_as_chance():
    assert pointing_game(torch.zeros(1, 8, 10), box()).tolist() == [0.125]
    assert energy_in_box(torch.zeros(1, 8, 10), box()).tolist() == [0.125]


def test_energy_in_box_is_the_share_within():
    values = torch.zeros(1, 8, 10)
    values[0, 2, 5], values[0, 0, 0] = 3.0, 1.0
    assert energy_in_box(values, box()).tolist() == [0.75]
    assert energy_in_box(torch.ones(1, 8, 10), box()).tolist() == [pytest.approx(0.125)]


def test_a_perfect_map_scores_one_and_a_blind_one_zero(scales):
    mask = box_mask([EventBox("tone", 0.05, 0.09, 260.0, 420.0)], scales).expand(4, -1, -1)
    perfect = score_maps("perfect", mask.float(), mask)
    assert (perfect.pointing, perfect.energy) == (1.0, pytest.approx(1.0))
    assert perfect.area == pytest.approx(10 / 160)
    blind = score_maps("blind", (~mask).float(), mask)
    assert (blind.pointing, blind.energy, blind.num_clips) == (0.0, 0.0, 4)


def test_intervals_hold_the_mean_and_shrink_with_clips(scales):
    mask = box_mask([EventBox("tone", 0.0, 0.1, 100.0, 800.0)], scales).expand(400, -1, -1)
    maps = torch.rand(400, 8, 20, generator=torch.Generator().manual_seed(0))
    many, few = score_maps("random", maps, mask), score_maps("random", maps[:50], mask[:50])
    low, high = many.pointing_ci
    assert low <= many.pointing <= high
    assert low <= many.area <= high
    assert high - low < few.pointing_ci[1] - few.pointing_ci[0]


def test_batches_do_not_change_a_map(model, specs, subject, monkeypatch):
    ids = torch.tensor([0, 1, 2])
    monkeypatch.setattr("benchmarks.localise.BATCH", 2)
    found = map_batches(subject, specs, ids, "gradcam")
    plan = model.plan(specs, subject.routing)
    whole = METHODS["gradcam"](model, specs, plan, ClassTarget((0, 1, 2)))
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-5)


def test_who_hears_is_mapped_with_the_sound(closed, heard):
    spec, sound = heard
    specs, both = spec.expand(2, -1, -1), sound.repeat(2)
    found = map_batches(closed, specs, torch.tensor([0, 1]), "gradcam", both)
    plan, _ = closed.answer(*closed.model.prepare(specs, closed.routing, sound=both))
    masked = MaskableSound.of(closed.frontend, both, spec.shape[1])
    expected = METHODS["gradcam"](closed.model, specs, plan, ClassTarget((0, 1)), masked)
    torch.testing.assert_close(found, expected)
