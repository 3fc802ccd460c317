"""Candidates around a front end: zoomed into their bands, at rates that hold them, with reasons."""

import pytest

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.frontend.registry import build_frontend
from xmoe.policy.families import BASE, MANY_CLIPS, SHAPES, list_families

SPECTRO = SpectroConfig(
    sample_rate_hz=44_100,
    fmin_hz=20.0,
    fmax_hz=18_000.0,
    n_fft=2048,
    win_length=1764,
    hop_length=882,
    segment_s=5.0,
    segment_hop_s=2.5,
)


@pytest.fixture(scope="module")
def views():
    return {spec.name: spec.spectro for spec in list_families(SPECTRO)[0]}


def test_the_policys_own_front_end_comes_first_and_every_family_is_there():
    kept, dropped = list_families(SPECTRO)
    assert kept[0].name == BASE
    assert kept[0].spectro == SPECTRO
    assert [spec.name for spec in kept[1:]] == list(SHAPES)
    assert {spec.family for spec in kept} == set(EXPERT_NAMES)
    assert dropped == {}


def test_every_candidate_says_why_and_can_be_built():
    for spec in list_families(SPECTRO)[0]:
        assert spec.reason
        assert build_frontend(spec.spectro).num_bins == 64


def test_bands_are_zoomed_and_meet(views):
    assert views["low"].fmin_hz == 20.0
    assert views["low"].fmax_hz == pytest.approx(views["high"].fmin_hz)
    assert views["low"].fmax_hz < views["mid"].fmax_hz < views["high"].fmax_hz == 18_000.0
    assert views["high_band"].fmin_hz == pytest.approx(views["mid"].fmax_hz)


def test_low_bands_have_low_rates_and_the_same_frames(views):
    low = views["low"]
    assert low.sample_rate_hz == 7350
    assert low.sample_rate_hz >= 2.2 * low.fmax_hz
    assert low.hop_length / low.sample_rate_hz == pytest.approx(882 / 44_100)


def test_windows_follow_the_bias(views):
    def window_s(name):
        return views[name].win_length / views[name].sample_rate_hz

    assert window_s("transient") == pytest.approx(0.01)
    assert window_s("fine_frequency") == pytest.approx(0.16)
    assert window_s("low") == pytest.approx(0.08)
    assert views["transient"].hop_length == 441


def test_a_narrow_band_has_no_parts():
    narrow = SPECTRO.model_copy(update={"fmin_hz": 10_000.0})
    kept, dropped = list_families(narrow)
    assert {"low", "mid", "high_band", "harmonic", "harmonic_cwt"} <= set(dropped)
    assert "octave" in dropped["low"]
    assert {spec.name for spec in kept} >= {BASE, "broadband_pcen", "transient"}


def test_short_segments_have_no_pcen_and_no_long_windows():
    short = SPECTRO.model_copy(update={"segment_s": 0.1})
    _, dropped = list_families(short)
    assert {"broadband_pcen", "fine_frequency", "fine_stft"} <= set(dropped)


def test_a_shape_that_is_the_policys_own_is_left_out():
    same = SPECTRO.model_copy(update={"floor_db": -50.0})
    _, dropped = list_families(same)
    assert dropped == {"broadband": "it is the policy's own front end"}


def test_many_clips_have_half_the_kernels():
    few, many = (list_families(SPECTRO, num_clips=n)[0][0].kernels for n in (10, MANY_CLIPS + 1))
    assert many == few // 2


def test_a_low_rate_works_too():
    slow = SpectroConfig(
        sample_rate_hz=2000, fmax_hz=1000.0, n_fft=128, win_length=64, hop_length=20, segment_s=1.0
    )
    for spec in list_families(slow)[0]:
        assert spec.spectro.sample_rate_hz >= 1000
        build_frontend(spec.spectro)
