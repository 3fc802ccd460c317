"""Spectrogram settings from profiles of known recordings, one rule at a time."""

import pytest

from xmoe.policy.records import PolicyOverrides
from xmoe.policy.rules import decide_fit, decide_spectro

NONE = PolicyOverrides()


def decide(profile, **wishes):
    """Return the settings, and the choices by name."""
    spectro, choices = decide_spectro(profile, PolicyOverrides(**wishes))
    return spectro, {choice.name: choice for choice in choices}


@pytest.fixture
def digits(make_profile):
    return make_profile(
        fs_mode_hz=8000,
        fmin_eff_hz=62.5,
        fmax_eff_hz=3906.25,
        duration_s=(0.25, 0.66),
        transient=0.35,
    )


@pytest.fixture
def environment(make_profile):
    return make_profile(
        fs_mode_hz=44_100,
        fmin_eff_hz=21.5,
        fmax_eff_hz=20_566.0,
        duration_s=(5.001, 5.001),
        transient=0.43,
        band_limited_fraction=0.48,
        band_limit_hz=16_518.8,
    )


@pytest.fixture
def insects(make_profile):
    return make_profile(
        fs_mode_hz=44_100,
        fmin_eff_hz=21.5,
        fmax_eff_hz=21_748.0,
        duration_s=(3.0, 3.0),
        transient=0.33,
    )


@pytest.fixture
def ships(make_profile):
    return make_profile(
        fs_mode_hz=32_000,
        fmin_eff_hz=15.6,
        fmax_eff_hz=13_078.0,
        duration_s=(3.0, 3.0),
        transient=0.04,
    )


def test_digits_get_the_settings_that_worked_by_hand(digits):
    spectro, _ = decide(digits)
    assert (spectro.sample_rate_hz, spectro.fmin_hz, spectro.fmax_hz) == (8000, 50.0, 4000.0)
    assert (spectro.n_fft, spectro.win_length, spectro.hop_length) == (256, 200, 80)
    assert (spectro.segment_s, spectro.segment_hop_s) == (0.8, 0.4)


def test_environmental_sounds_get_the_settings_that_worked_by_hand(environment):
    spectro, _ = decide(environment)
    assert (spectro.sample_rate_hz, spectro.fmin_hz, spectro.fmax_hz) == (44_100, 20.0, 18_000.0)
    assert (spectro.n_fft, spectro.win_length, spectro.hop_length) == (2048, 1768, 884)
    assert spectro.segment_s == 5.01


def test_insects_get_the_settings_that_worked_by_hand(insects):
    spectro, _ = decide(insects)
    assert (spectro.sample_rate_hz, spectro.fmax_hz) == (44_100, 22_050.0)
    assert (spectro.n_fft, spectro.win_length, spectro.hop_length) == (1024, 1024, 529)
    assert spectro.segment_s == 3.0


def test_ships_get_the_settings_that_worked_by_hand(ships):
    spectro, _ = decide(ships)
    assert (spectro.sample_rate_hz, spectro.fmin_hz, spectro.fmax_hz) == (32_000, 20.0, 14_000.0)
    assert (spectro.n_fft, spectro.win_length, spectro.hop_length) == (2048, 1600, 640)
    assert spectro.segment_s == 3.0


@pytest.mark.parametrize("name", ["digits", "environment", "insects", "ships"])
def test_segments_have_frames_that_train_in_minutes(name, request):
    spectro, _ = decide(request.getfixturevalue(name))
    assert 64 <= spectro.num_frames <= 260
    assert spectro.num_bins == 64
    assert spectro.frontend == "logmel"


def test_every_setting_has_a_reason(digits):
    _, choices = decide(digits)
    assert set(choices) == {
        "sample_rate_hz",
        "band_hz",
        "frontend",
        "num_bins",
        "segment_s",
        "segment_hop_s",
        "hop_length",
        "win_length",
        "n_fft",
    }
    assert all(len(choice.reason) > 10 for choice in choices.values())
    assert {choice.source for choice in choices.values()} == {"rule"}


# Rate


def test_the_most_frequent_rate_is_kept(make_profile):
    profile = make_profile(fs_mode_hz=16_000, fs_unique={8000: 30, 16_000: 150, 48_000: 20})
    spectro, choices = decide(profile)
    assert spectro.sample_rate_hz == 16_000
    assert "85%" in choices["sample_rate_hz"].reason


def test_the_majority_is_never_upsampled(make_profile):
    profile = make_profile(
        fs_mode_hz=44_100, fs_unique={8000: 60, 16_000: 60, 44_100: 80}, fmax_eff_hz=20_000.0
    )
    spectro, choices = decide(profile)
    assert spectro.sample_rate_hz == 16_000
    assert spectro.fmax_hz <= 8000.0
    assert "half" in choices["sample_rate_hz"].reason


def test_a_rate_that_tells_the_label_is_hidden(make_profile):
    plain = make_profile(fs_mode_hz=16_000, fs_unique={8000: 80, 16_000: 120})
    leak = plain.leakage.model_copy(
        update={"leaking": ("sample_rate",), "accuracy": {"sample_rate": 0.9}, "chance": 0.5}
    )
    assert decide(plain)[0].sample_rate_hz == 16_000
    spectro, choices = decide(plain.model_copy(update={"leakage": leak}))
    assert spectro.sample_rate_hz == 8000
    assert "90%" in choices["sample_rate_hz"].reason


def test_ultrasonic_rates_come_down_by_a_whole_factor_where_the_band_allows(make_profile):
    profile = make_profile(fs_mode_hz=384_000, fmax_eff_hz=40_000.0)
    spectro, choices = decide(profile)
    assert spectro.sample_rate_hz == 96_000
    assert spectro.fmax_hz == 42_000.0
    assert "4 times fewer" in choices["sample_rate_hz"].reason


def test_ultrasonic_rates_stay_where_the_band_needs_them(make_profile):
    profile = make_profile(fs_mode_hz=250_000, fmax_eff_hz=110_000.0)
    assert decide(profile)[0].sample_rate_hz == 250_000


@pytest.mark.parametrize(("rate", "expected"), [(44_100, 11_025), (48_000, 12_000), (8000, 8000)])
def test_a_low_band_needs_few_samples(make_profile, rate, expected):
    profile = make_profile(fs_mode_hz=rate, fmax_eff_hz=1900.0)
    spectro, _ = decide(profile)
    assert spectro.sample_rate_hz <= expected
    assert spectro.sample_rate_hz >= 8000
    assert spectro.sample_rate_hz / 2 >= spectro.fmax_hz


# Band


def test_the_band_has_a_margin_and_stays_under_nyquist(make_profile):
    spectro, _ = decide(make_profile(fmin_eff_hz=1000.0, fmax_eff_hz=5000.0))
    assert spectro.fmin_hz == 800.0
    assert 5000.0 < spectro.fmax_hz <= 5500.0
    assert decide(make_profile(fmax_eff_hz=8000.0))[0].fmax_hz == 8000.0


def test_the_lowest_edge_is_twenty_hertz(make_profile):
    assert decide(make_profile(fmin_eff_hz=2.0))[0].fmin_hz == 20.0


def test_a_codec_limit_of_few_recordings_cuts_nothing(environment):
    few = environment.model_copy(update={"band_limited_fraction": 0.1})
    assert decide(few)[0].fmax_hz == 22_000.0
    assert "codec" not in decide(few)[1]["band_hz"].reason
    assert "codec" in decide(environment)[1]["band_hz"].reason


def test_a_sliver_of_a_band_is_widened_to_an_octave(make_profile):
    spectro, _ = decide(make_profile(fmin_eff_hz=6000.0, fmax_eff_hz=6100.0))
    assert spectro.fmax_hz == 2 * spectro.fmin_hz


# Segments and frames


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((10.0, 10.0), 3.0),
        ((1.0, 60.0), 3.0),
        ((5.9, 5.9), 5.9),
        ((0.25, 0.25), 0.25),
        ((1.24, 1.24), 1.24),
        ((2.98, 3.0), 3.0),
        ((1.0, 2.0), 2.4),
        ((0.05, 0.05), 0.1),
        ((0.01, 0.03), 0.1),
    ],
)
def test_segments_hold_short_clips_and_cut_long_ones(make_profile, lengths, expected):
    spectro, _ = decide(make_profile(duration_s=lengths))
    assert spectro.segment_s == pytest.approx(expected)
    assert spectro.segment_hop_s == pytest.approx(expected / 2)


@pytest.mark.parametrize("segment_s", [0.05, 0.2, 1.0, 3.0, 6.0, 30.0])
def test_hops_never_exceed_twenty_five_ms_nor_leave_too_few_frames(profile, segment_s):
    spectro, _ = decide(profile, segment_s=segment_s)
    assert 1 / spectro.frame_rate_hz <= 0.0251
    assert spectro.num_frames >= 60
    assert 1.9 * spectro.hop_length <= spectro.win_length <= 2.6 * spectro.hop_length + 16


def test_steady_sounds_get_longer_windows(make_profile):
    steady, _ = decide(make_profile(duration_s=(3.0, 3.0), transient=0.02))
    lively, _ = decide(make_profile(duration_s=(3.0, 3.0), transient=0.5))
    assert steady.win_length > 1.5 * lively.win_length


def test_a_low_band_pads_the_fft(make_profile):
    profile = make_profile(fs_mode_hz=8000, fmin_eff_hz=20.0, fmax_eff_hz=300.0, transient=0.5)
    spectro, choices = decide(profile)
    assert spectro.n_fft > 2 * spectro.win_length
    assert "lowest mel row" in choices["n_fft"].reason


# The user's own


def test_given_values_are_kept_and_marked(profile):
    spectro, choices = decide(
        profile,
        frontend="cqt",
        sample_rate_hz=8000,
        band_hz=(200.0, 3000.0),
        num_bins=32,
        segment_s=2.0,
    )
    assert (spectro.frontend, spectro.sample_rate_hz, spectro.num_bins) == ("cqt", 8000, 32)
    assert (spectro.fmin_hz, spectro.fmax_hz, spectro.segment_s) == (200.0, 3000.0, 2.0)
    for name in ("frontend", "sample_rate_hz", "band_hz", "num_bins", "segment_s"):
        assert choices[name].source == "user"
    assert choices["hop_length"].source == "rule"


def test_a_given_rate_bounds_the_band(profile):
    spectro, _ = decide(profile, sample_rate_hz=4000)
    assert spectro.fmax_hz == 2000.0


def test_a_given_band_picks_a_rate_that_holds_it(make_profile):
    profile = make_profile(fs_mode_hz=16_000, fs_unique={16_000: 150, 48_000: 30, 96_000: 20})
    spectro, choices = decide(profile, band_hz=(100.0, 20_000.0))
    assert spectro.sample_rate_hz == 48_000
    assert "20 kHz" in choices["sample_rate_hz"].reason


def test_a_given_low_band_lowers_the_rate(make_profile):
    profile = make_profile(fs_mode_hz=48_000, fmax_eff_hz=22_000.0)
    assert decide(profile, band_hz=(50.0, 3000.0))[0].sample_rate_hz == 8000


@pytest.mark.parametrize(
    ("snr_db", "clips", "fit", "why"),
    [
        (-8.2, 1200, "both", "median SNR -8.2 dB: in noise louder than the sounds"),
        (-4.9, 70, "closed", "70 training clips are too few"),
        (0.0, 1200, "closed", "median SNR 0.0 dB: random kernels do well"),
    ],
)
def test_a_network_is_trained_too_where_noise_is_loud_and_clips_are_many(
    make_profile, snr_db, clips, fit, why
):
    choice = decide_fit(make_profile(snr_db=snr_db, splits={"train": clips, "val": 26}))
    assert choice.value == fit
    assert why in choice.reason
