"""Samples, segments and rates are those of the run's own code."""

import sys

import numpy as np
import pytest

from tests.fixtures.runs import make_sound, to_wav
from xmoe.audio import resample as full
from xmoe.audio.segment import Grid
from xmoe.audio.sound import to_levels
from xmoe_lite.sound import LiteError, cut_segments, in_16_bits, read_sound, resample


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(44100, 16000), (48000, 8000), (8000, 11025), (16000, 16000)]
)
def test_resampling_is_the_same(from_hz, to_hz):
    samples = np.random.default_rng(0).standard_normal(5001).astype(np.float32)
    expected = full.resample(samples, from_hz=from_hz, to_hz=to_hz)
    np.testing.assert_allclose(resample(samples, from_hz, to_hz), expected, atol=2e-6)


def test_rates_without_a_common_step_are_refused():
    with pytest.raises(LiteError, match="resample the recording to 16000 Hz"):
        resample(np.zeros(1000, np.float32), 44099, 16000)


@pytest.mark.parametrize("size", [1, 3200, 3201, 9000])
def test_segments_are_the_same(size):
    samples = np.arange(size, dtype=np.float32)
    expected = Grid.of(8000, segment_s=0.4, hop_s=0.2).cut(samples)
    found = cut_segments(samples, 8000, 0.4, 0.2)
    assert [part.tolist() for part in found] == [part.samples.tolist() for part in expected]


def test_levels_are_the_same():
    samples = make_sound(0.1)
    levels, scale = to_levels(samples)
    np.testing.assert_array_equal(in_16_bits(samples), levels * scale)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_wav_is_read_without_soundfile(tmp_path, monkeypatch, subtype):
    path = tmp_path / "a.wav"
    path.write_bytes(to_wav(np.stack([make_sound(), make_sound(seed=1)], 1), subtype=subtype))
    expected, rate_hz = read_sound(path)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    samples, own_hz = read_sound(path)
    assert (own_hz, len(samples)) == (rate_hz, 3200)
    np.testing.assert_allclose(samples, expected, atol=1e-7)


@pytest.mark.parametrize("bare", [False, True])
def test_what_is_no_sound_is_named(tmp_path, monkeypatch, bare):
    if bare:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.wav").write_bytes(b"nonsense" * 9)
    for name in ("a.wav", "none.wav"):
        with pytest.raises(LiteError, match=f"{name}: not readable"):
            read_sound(tmp_path / name)
