"""What the router reads: plain moments, concentration of saliency, margin and entropy of belief."""

import math

import pytest
import torch

from xmoe.glance.evidence import (
    NUM_CONDITIONS,
    describe_belief,
    describe_saliency,
    measure_conditions,
)


def test_conditions_equal_plain_moments():
    generator = torch.Generator().manual_seed(2)
    spec = torch.randn(2, 16, 20, generator=generator, dtype=torch.float64)
    measured = measure_conditions(spec)
    assert measured.shape == (2, NUM_CONDITIONS)
    for clip in range(2):
        cells = spec[clip].flatten().tolist()
        times = [float(spec[clip, :, t].mean()) for t in range(20)]
        mean = sum(times) / 20
        centred = [value - mean for value in times]
        variance = sum(value**2 for value in centred) / 20
        pairs = zip(centred[1:], centred[:-1], strict=True)
        expected = [
            sum(value**3 for value in cells) / 320,
            math.log1p(sum(value**4 for value in cells) / 320),
            sum(value < -1.5 for value in cells) / 320,
            sum(value > 2.0 for value in cells) / 320,
            float(spec[clip].mean(1).std()),
            math.sqrt(variance),
            math.log1p(sum(value**4 for value in centred) / 20 / variance**2),
            sum(a * b for a, b in pairs) / 19 / variance,
        ]
        assert measured[clip].tolist() == pytest.approx(expected, abs=1e-7)


def test_an_alternating_level_is_the_opposite_of_steady():
    spec = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 16, 16)
    assert float(measure_conditions(spec)[0, 7]) == pytest.approx(-1.0)


def test_a_lone_click_has_the_fourth_moment_of_one_frame_in_many():
    spec = torch.zeros(1, 16, 100)
    spec[:, :, 40] = 3.0
    kurtosis = (1 - 3 * 0.01 * 0.99) / (0.01 * 0.99)
    assert float(measure_conditions(spec)[0, 6]) == pytest.approx(math.log1p(kurtosis), rel=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_conditions_of_silence_and_of_few_frames_are_finite(frames):
    assert torch.isfinite(measure_conditions(torch.zeros(1, 16, frames))).all()
    assert float(measure_conditions(torch.ones(1, 16, frames))[0, 7]) == 0.0


def test_saliency_in_one_cell_is_wholly_concentrated():
    cells = torch.zeros(1, 4, 16)
    cells[0, 2, 5] = 7.0
    described = describe_saliency(cells)[0].tolist()
    assert described == pytest.approx([0, 0, 1, 0, 1, 1, 1, 1, 0, 0], abs=1e-6)


def test_even_saliency_is_spread_like_the_columns():
    described = describe_saliency(torch.ones(1, 4, 16))[0].tolist()
    expected = [0.25] * 4 + [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1]
    assert described == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("columns", [1, 2, 3, 11])
def test_no_saliency_at_all_is_described_by_zeros(columns):
    described = describe_saliency(torch.zeros(2, 4, columns))
    assert described.shape == (2, 4 + 6)
    assert float(described.abs().max()) == 0.0


def test_belief_is_described_with_margin_and_entropy():
    described = describe_belief(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2]]))
    entropy = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert described[0].tolist() == pytest.approx([1, 0, 0, 1, 0], abs=1e-6)
    assert described[1].tolist() == pytest.approx([0.5, 0.3, 0.2, 0.2, entropy], abs=1e-6)
