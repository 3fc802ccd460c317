"""Q and the transient score at the corners of their formulas."""

from dataclasses import replace

import pytest

from xmoe.profile.quality import (
    WEIGHTS,
    clip_quality,
    dataset_quality,
    quality_parts,
    transient_score,
)


def test_weights_sum_to_one():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_perfect_clip_has_quality_one(plain):
    assert clip_quality(plain) == 1.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"snr_db": 10.0}, 0.5**0.4),
        ({"snr_db": -20.0}, 0.05**0.4),
        ({"clipping_rate": 0.01}, 0.5**0.2),
        ({"clipping_rate": 0.5}, 0.0),
        ({"silence_rate": 0.75}, 0.25**0.2),
        ({"silence_rate": 1.0}, 0.0),
        ({"band_limit_hz": 4000.0}, 0.5**0.2),
    ],
)
def test_each_fault_lowers_quality_by_its_formula(plain, change, expected):
    assert clip_quality(replace(plain, **change)) == pytest.approx(expected)


def test_parts_stay_between_zero_and_one(plain):
    worst = replace(plain, snr_db=-99.0, clipping_rate=1.0, silence_rate=1.0, band_limit_hz=1.0)
    assert all(0.0 <= part <= 1.0 for part in quality_parts(worst).values())


def test_unreadable_clips_count_as_zero(plain):
    assert dataset_quality([plain, plain], num_unreadable=2) == 0.5
    assert dataset_quality([]) == 0.0


def test_transient_score(plain):
    rows = [replace(plain, kurtosis=k) for k in (-1.5, 10.0)]
    assert transient_score(rows) == pytest.approx(0.25)
    assert transient_score([]) == 0.0
