"""Faithfulness of maps and models whose scores are known."""

import pytest
import torch

from xmoe.explain.faithfulness import (
    Filling,
    measure_faithfulness,
    rank_cells,
    sample_noise_floor,
)
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.targets import ClassTarget


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_ranks_fall_with_the_map_and_break_ties_at_random(generator):
    values = torch.zeros(1, 4, 25)
    values[0, 1, 3], values[0, 2, 2] = 2.0, 1.0
    rank = rank_cells(values, generator=generator)
    assert (float(rank[0, 1, 3]), float(rank[0, 2, 2])) == (0.0, pytest.approx(0.01))
    assert sorted(rank.flatten().tolist()) == pytest.approx([i / 100 for i in range(100)])
    again = rank_cells(values, generator=generator)
    assert not torch.equal(rank, again)


def watch_one_cell(spec):
    """A model that is sure while cell (3, 4) is loud."""
    return (spec[:, 3, 4] > 2.0).float()


def test_the_map_that_names_the_cell_deletes_at_once_and_inserts_at_once(generator):
    spec = torch.zeros(2, 8, 10)
    spec[:, 3, 4] = 5.0
    true = torch.zeros(8, 10)
    true[3, 4] = 1.0
    maps = torch.stack([true, 1 - true])
    found = measure_faithfulness(watch_one_cell, spec, maps, generator=generator, steps=10)
    # steps of a tenth, trapezoids: gone after the first step, or only at the very last
    assert found.deletion.tolist() == pytest.approx([0.05, 0.95])
    assert found.insertion.tolist() == pytest.approx([0.95, 0.05])


def test_a_steady_line_is_no_noise_floor(generator):
    spec = 0.1 * torch.randn(1, 32, 200, generator=generator)
    spec[0, 10] += 8.0
    floor = sample_noise_floor(spec, generator=generator)
    assert float(floor[0, 10].mean()) < 0.2
    assert float(floor.std()) == pytest.approx(0.05, abs=0.03)


def test_the_floor_follows_the_slope_of_the_background(generator):
    slope = torch.linspace(0, 6, 32)[None, :, None]
    spec = slope + 0.1 * torch.randn(1, 32, 200, generator=generator)
    floor = sample_noise_floor(spec, generator=generator)
    assert float((floor - slope)[:, 4:28].abs().max()) < 0.8


def test_the_same_seed_gives_the_same_scores(specs, subject):
    maps = torch.rand(3, 32, 41)
    target = ClassTarget(0)
    first, second = (
        measure_faithfulness(
            lambda batch: target.watch(subject, batch),
            specs,
            maps,
            generator=torch.Generator().manual_seed(3),
            steps=4,
        )
        for _ in range(2)
    )
    torch.testing.assert_close(first.deletion, second.deletion)
    assert first.deletion.shape == first.insertion.shape == (3,)


def test_sound_is_filled_where_the_spectrogram_is(closed, heard):
    spec, sound = heard
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    generator = torch.Generator().manual_seed(0)
    filling = Filling(
        spec[None], lambda v: sample_noise_floor(v, generator=generator.manual_seed(0)), masked
    )
    gone, rows = torch.zeros(2, *spec.shape, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    gone[1, 2:6] = True  # the tone of 700 Hz
    specs, sounds = filling.fill(gone, rows)
    assert torch.equal(specs[0], spec)
    assert sounds.read(0)[0] == pytest.approx(sound.read(0)[0], abs=1e-4)
    left, whole = (torch.from_numpy(sounds.read(row)[0]).square().mean() for row in (1, 0))
    assert float(left) < 0.3 * float(whole)
    # In dB above a floor the spectrogram's floor and the sound's are one, scaled.
    std = masked.level_db.std(correction=0)
    torch.testing.assert_close(filling.gain_db / std, filling.floor - spec, rtol=0.01, atol=0.01)


def test_experts_are_asked_with_what_is_left_of_the_sound(closed, heard):
    spec, sound = heard
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    given = []

    def watch(specs, sounds):
        given.append(len(sounds))
        return closed.probabilities(specs, sounds)[:, 0]

    found = measure_faithfulness(
        watch,
        spec[None].expand(2, -1, -1),
        torch.rand(2, *spec.shape),
        generator=torch.Generator().manual_seed(0),
        sound=masked.repeat(2),
        steps=3,
    )
    assert given == [2] * 6  # both ends are shared
    whole = closed.probabilities(spec[None], sound)[0, 0]
    torch.testing.assert_close(found.removed[:, 0], whole.expand(2), rtol=1e-3, atol=1e-3)
    assert torch.equal(found.removed[:, 0], found.restored[:, -1])
