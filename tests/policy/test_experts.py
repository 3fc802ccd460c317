"""Which experts rest, which start ahead, how many may answer: rules at and beside their limits."""

import pytest

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.policy.experts import (
    available_experts,
    decide_experts,
    find_masks,
)
from xmoe.policy.records import PolicyOverrides

SPECTRO = SpectroConfig(fmin_hz=50.0, fmax_hz=7000.0)


def decide(profile, spectro=SPECTRO, **wishes):
    """Return the choices by name."""
    choices = decide_experts(profile, spectro, PolicyOverrides(**wishes))
    return {choice.name: choice for choice in choices}


def test_a_plain_set_has_all_experts_and_no_mask(profile):
    choices = decide(profile)
    assert choices["experts"].value == list(EXPERT_NAMES)
    assert choices["masked_experts"].value == []
    assert choices["expert_priors"].value == {}
    assert choices["k_max"].value == 3
    assert choices["window_frames"].value == 4
    assert {choice.source for choice in choices.values()} == {"rule"}


@pytest.mark.parametrize(
    ("fmax_eff_hz", "masked"), [(1999.0, ["high_band"]), (2000.0, []), (9000.0, [])]
)
def test_a_band_under_two_kilohertz_masks_the_high_band(make_profile, fmax_eff_hz, masked):
    choice = decide(make_profile(fmax_eff_hz=fmax_eff_hz))["masked_experts"]
    assert choice.value == masked
    assert not masked or "2 kHz" in choice.reason


@pytest.mark.parametrize(("quality", "masked"), [(0.34, ["fine_frequency"]), (0.36, [])])
def test_low_quality_masks_fine_frequency(make_profile, quality, masked):
    choice = decide(make_profile(quality=quality))["masked_experts"]
    assert choice.value == masked
    assert not masked or "0.34" in choice.reason


def test_a_narrow_band_masks_the_experts_of_its_parts(profile):
    narrow = SpectroConfig(fmin_hz=4000.0, fmax_hz=7000.0)
    choice = decide(profile, narrow)["masked_experts"]
    assert choice.value == ["low", "high", "mid", "high_band"]
    assert "octave" in choice.reason


def test_masks_add_up(make_profile):
    profile = make_profile(fmax_eff_hz=1000.0, quality=0.1)
    assert set(find_masks(profile, SPECTRO)) == {"high_band", "fine_frequency"}
    assert available_experts(profile, SPECTRO, PolicyOverrides()) == 6


@pytest.mark.parametrize(
    ("transient", "priors"), [(0.29, {}), (0.3, {"transient": 1.3}), (0.8, {"transient": 1.8})]
)
def test_transients_favour_their_expert(make_profile, transient, priors):
    choice = decide(make_profile(transient=transient))["expert_priors"]
    assert choice.value == priors
    assert f"{transient:.2f}" in choice.reason


def test_no_prior_for_an_expert_that_is_not_there(make_profile):
    choices = decide(make_profile(transient=0.9), experts=("low", "high"))
    assert choices["expert_priors"].value == {}


@pytest.mark.parametrize(("train", "expected"), [(99, 2), (100, 3)])
def test_tiny_sets_get_fewer_experts_per_segment(make_profile, train, expected):
    choice = decide(make_profile(splits={"train": train, "test": 500}))["k_max"]
    assert choice.value == expected


def test_k_max_is_bounded_by_the_experts_that_may_be_chosen(profile):
    choice = decide(profile, experts=2)["k_max"]
    assert choice.value == 2
    assert "2 experts" in choice.reason


def test_a_given_k_max_is_kept(profile):
    choice = decide(profile, k_max=5)["k_max"]
    assert (choice.value, choice.source) == (5, "user")


# Experts given by number or name


def test_a_number_takes_the_first_experts_that_are_not_ruled_out(make_profile):
    assert decide(make_profile(), experts=3)["experts"].value == ["broadband", "low", "high"]
    poor = make_profile(quality=0.1, fmax_eff_hz=1500.0)
    six = decide(poor, experts=6)
    assert six["experts"].value == ["broadband", "low", "high", "transient", "harmonic", "mid"]
    assert six["masked_experts"].value == []
    assert six["experts"].source == "user"


def test_all_eight_by_number_mask_none_but_say_so(make_profile):
    choices = decide(make_profile(quality=0.1), experts=8)
    assert choices["experts"].value == list(EXPERT_NAMES)
    assert choices["masked_experts"].value == []
    assert "fine_frequency" in choices["masked_experts"].reason
    assert choices["masked_experts"].source == "user"


def test_named_experts_are_never_masked(make_profile):
    choices = decide(make_profile(fmax_eff_hz=900.0), experts=("high_band", "low"))
    assert choices["experts"].value == ["high_band", "low"]
    assert choices["masked_experts"].value == []
    assert "advise against high_band" in choices["masked_experts"].reason


@pytest.mark.parametrize(("wish", "expected"), [(4, 4), (("low", "mid"), 2), (None, 8)])
def test_available_experts(profile, wish, expected):
    assert available_experts(profile, SPECTRO, PolicyOverrides(experts=wish)) == expected

    # Windows
    assert SPECTRO.num_frames == 101


def test_windows_say_how_long_they_are(profile):
    choice = decide(profile)["window_frames"]
    assert "0.16 s" in choice.reason
    assert "7 in a segment" in choice.reason


@pytest.mark.parametrize(("segment_s", "expected"), [(0.4, 2), (0.1, 1), (5.0, 4)])
def test_short_segments_get_narrower_windows(profile, segment_s, expected):
    spectro = SPECTRO.model_copy(update={"segment_s": segment_s})
    assert decide(profile, spectro)["window_frames"].value == expected


def test_a_given_window_is_kept(profile):
    choice = decide(profile, window_frames=2)["window_frames"]
    assert (choice.value, choice.source) == (2, "user")
