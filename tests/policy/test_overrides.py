"""Wishes that cannot work: the option is named, and what would work."""

import pytest

from xmoe.base.config import SpectroConfig
from xmoe.base.errors import ConfigError
from xmoe.policy.overrides import check_against_spectro, check_overrides
from xmoe.policy.records import PolicyOverrides

SPECTRO = SpectroConfig(fmin_hz=50.0, fmax_hz=7000.0)


def refuse(profile, **wishes):
    """Return the error that these wishes raise."""
    with pytest.raises(ConfigError) as caught:
        check_overrides(profile, PolicyOverrides(**wishes))
    assert caught.value.mend
    return caught.value


def refuse_with_spectro(profile, **wishes):
    """Return the error that these wishes raise once the front end is known."""
    with pytest.raises(ConfigError) as caught:
        check_against_spectro(profile, SPECTRO, PolicyOverrides(**wishes))
    assert caught.value.mend
    return caught.value


def test_no_wish_is_always_right(profile):
    check_overrides(profile, PolicyOverrides())
    check_against_spectro(profile, SPECTRO, PolicyOverrides())


def test_sensible_wishes_pass(profile):
    wishes = PolicyOverrides(
        frontend="pcen",
        sample_rate_hz=16_000,
        band_hz=(0.0, 8000.0),
        num_bins=128,
        segment_s=1.5,
        experts=("low", "high"),
        k_max=2,
        window_frames=3,
    )
    check_overrides(profile, wishes)
    check_against_spectro(profile, SPECTRO, wishes)


@pytest.mark.parametrize("rate", [0, 999, 384_001])
def test_rates_beyond_what_front_ends_take(profile, rate):
    assert refuse(profile, sample_rate_hz=rate).where == "--sample-rate"


def test_a_band_above_half_of_every_rate(profile):
    error = refuse(profile, band_hz=(50.0, 12_000.0))
    assert error.where == "--band"
    assert "8 kHz" in error.what
    assert "8000" in error.mend


def test_a_band_above_half_of_the_given_rate(profile):
    error = refuse(profile, band_hz=(50.0, 7000.0), sample_rate_hz=8000)
    assert error.where == "--band"
    assert "4 kHz" in error.what
    assert "--sample-rate" in error.mend


def test_a_band_within_the_highest_of_several_rates_passes(make_profile):
    profile = make_profile(fs_mode_hz=8000, fs_unique={8000: 190, 48_000: 10})
    check_overrides(profile, PolicyOverrides(band_hz=(50.0, 20_000.0)))


@pytest.mark.parametrize("band", [(500.0, 100.0), (300.0, 300.0), (-5.0, 100.0)])
def test_a_band_that_does_not_rise(profile, band):
    error = refuse(profile, band_hz=band)
    assert error.where == "--band"
    assert "does not rise" in error.what


@pytest.mark.parametrize(("bins", "nearest"), [(60, 64), (8, 16), (100, 96), (1024, 512)])
def test_rows_that_the_stem_cannot_take(profile, bins, nearest):
    error = refuse(profile, num_bins=bins)
    assert error.where == "--num-bins"
    assert str(nearest) in error.mend


@pytest.mark.parametrize("segment_s", [0.0, -1.0, 0.01, 61.0])
def test_segments_too_short_or_too_long(profile, segment_s):
    assert refuse(profile, segment_s=segment_s).where == "--segment"


def test_unknown_experts_are_named_with_those_that_exist(profile):
    error = refuse(profile, experts=("low", "bass", "treble"))
    assert error.where == "--experts"
    assert "bass, treble" in error.what
    assert "broadband" in error.mend


def test_an_expert_named_twice(profile):
    error = refuse(profile, experts=("low", "mid", "low"))
    assert error.where == "--experts"
    assert "low" in error.what


@pytest.mark.parametrize("wish", [0, 9, -1, ()])
def test_no_expert_or_too_many(profile, wish):
    assert refuse(profile, experts=wish).where == "--experts"


@pytest.mark.parametrize("wishes", [{"k_max": 9}, {"k_max": 3, "experts": 2}, {"k_max": -1}])
def test_more_experts_per_segment_than_there_are(profile, wishes):
    error = refuse_with_spectro(profile, **wishes)
    assert error.where == "--k-max"


def test_masked_experts_do_not_count(make_profile):
    poor = make_profile(quality=0.1)
    check_against_spectro(poor, SPECTRO, PolicyOverrides(k_max=7))
    assert "7 may be chosen" in refuse_with_spectro(poor, k_max=8).what


def test_no_expert_at_all_is_a_choice(profile):
    check_against_spectro(profile, SPECTRO, PolicyOverrides(k_max=0))


@pytest.mark.parametrize("window", [0, 27])
def test_windows_wider_than_a_segment(profile, window):
    error = refuse_with_spectro(profile, window_frames=window)
    assert error.where == "--window-frames"
    assert "26" in error.mend


def test_a_window_as_wide_as_the_segment_passes(profile):
    check_against_spectro(profile, SPECTRO, PolicyOverrides(window_frames=26))
