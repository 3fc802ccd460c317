"""Specs: the band of each expert in Hz, as the front end lays it out."""

import pytest

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.policy.specs import list_specs


@pytest.mark.parametrize("frontend", ["stft", "logmel"])
def test_bands_lie_within_the_front_ends_and_meet_where_rows_do(frontend):
    spectro = SpectroConfig(frontend=frontend, fmin_hz=100.0, fmax_hz=6000.0)
    bands = {spec.name: spec.band_hz for spec in list_specs(EXPERT_NAMES, spectro)}
    assert tuple(bands) == EXPERT_NAMES
    low_hz, high_hz = bands["broadband"]
    assert 0.0 <= low_hz < 150.0
    assert 5800.0 < high_hz < 6200.0
    assert bands["low"][1] == bands["high"][0]
    assert bands["low"][0] == bands["broadband"][0]
    assert bands["high"][1] == bands["high_band"][1] == bands["broadband"][1]
    assert bands["mid"][0] < bands["low"][1] < bands["mid"][1]


def test_half_of_a_linear_band_is_half_in_hertz():
    spectro = SpectroConfig(frontend="stft", fmin_hz=0.0, fmax_hz=8000.0, num_bins=64)
    (low,) = list_specs(["low"], spectro)
    assert low.band_hz[1] == pytest.approx(4000.0, rel=0.03)
