"""Who races: the defender first, the others where they make sense."""

import pytest

from xmoe.base.config import SpectroConfig
from xmoe.frontend.registry import build_frontend
from xmoe.policy.candidates import CWT_MOST_SAMPLES, list_candidates

SPECTRO = SpectroConfig(fmin_hz=50.0, fmax_hz=7000.0)


def test_the_defender_comes_first_and_unchanged():
    candidates = list_candidates(SPECTRO, num_clips=100)
    assert next(iter(candidates.items())) == ("logmel", SPECTRO)
    assert list(candidates) == ["logmel", "logmel_fine", "pcen", "stft", "cqt", "cwt"]


def test_rate_band_rows_and_frames_are_shared():
    for config in list_candidates(SPECTRO, num_clips=10).values():
        assert config.num_frames == SPECTRO.num_frames
        assert config.num_bins == SPECTRO.num_bins
        assert config.sample_rate_hz == SPECTRO.sample_rate_hz
        assert (config.fmin_hz, config.fmax_hz) == (SPECTRO.fmin_hz, SPECTRO.fmax_hz)


def test_every_candidate_can_be_built():
    for config in list_candidates(SPECTRO, num_clips=10).values():
        assert build_frontend(config).config == config


def test_the_fine_one_looks_twice_as_long():
    fine = list_candidates(SPECTRO, num_clips=10)["logmel_fine"]
    assert (fine.win_length, fine.n_fft, fine.hop_length) == (800, 1024, 160)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"segment_s": 0.3}, "pcen"),
        ({"segment_s": 0.05}, "logmel_fine"),
        ({"fmin_hz": 4000.0}, "cqt"),
        ({"fmin_hz": 4000.0}, "cwt"),
    ],
)
def test_what_makes_no_sense_does_not_race(change, missing):
    candidates = list_candidates(SPECTRO.model_copy(update=change), num_clips=10)
    assert missing not in candidates
    assert "stft" in candidates


def test_wavelets_race_only_where_they_take_seconds():
    affordable = CWT_MOST_SAMPLES // SPECTRO.segment_samples
    assert "cwt" in list_candidates(SPECTRO, num_clips=affordable)
    assert "cwt" not in list_candidates(SPECTRO, num_clips=affordable + 1)
