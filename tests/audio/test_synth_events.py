"""Synthetic events: their boxes hold them and are tight, and the kinds look as they are named."""

import numpy as np
import pytest

from xmoe.audio.synth_events import EVENT_LABELS, LOWEST_HZ, make_event, measure_box

RATES = (8_000, 16_000, 44_100)
TOP_HZ = 3_600.0


def draw(label: str, rate: int, seed: int, duration_s: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    return make_event(label, duration_s=duration_s, sample_rate_hz=rate, top_hz=TOP_HZ, rng=rng)


def spectrogram(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return power [T, F] with windows of 32 ms, times [T] and frequencies [F]."""
    length = round(0.032 * rate)
    hop = length // 8
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, length // 2), length)[::hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(length), axis=1)) ** 2
    return power, np.arange(len(power)) * hop / rate, np.fft.rfftfreq(length, 1 / rate)


@pytest.mark.parametrize("label", EVENT_LABELS)
@pytest.mark.parametrize("rate", RATES)
def test_the_box_holds_the_event(label, rate):
    for seed in range(12):
        duration_s = 0.2 + 0.05 * seed
        event = draw(label, rate, seed, duration_s)
        clip = np.zeros(2 * rate)
        clip[rate // 2 : rate // 2 + len(event)] = event
        box = measure_box(label, event, start_s=0.5, clip_s=2.0, sample_rate_hz=rate)
        power, times, bins = spectrogram(clip, rate)
        inside = (times >= box.start_s) & (times <= box.end_s)
        in_band = (bins >= box.fmin_hz) & (bins <= box.fmax_hz)
        assert power[inside][:, in_band].sum() / power.sum() > 0.95


@pytest.mark.parametrize("label", EVENT_LABELS)
def test_no_side_of_the_box_is_idle(label):
    """A box cut by its margin and a tenth of its size on any side loses energy."""
    for seed in range(6):
        event = draw(label, 16_000, seed)
        box = measure_box(label, event, start_s=0.0, clip_s=9.0, sample_rate_hz=16_000)
        energy = np.abs(np.fft.rfft(event)) ** 2
        bins = np.fft.rfftfreq(len(event), 1 / 16_000)
        cut = 40.0 + 0.1 * (box.fmax_hz - box.fmin_hz)
        low, high = energy[bins < box.fmin_hz + cut], energy[bins > box.fmax_hz - cut]
        assert min(low.sum(), high.sum()) > 0.005 * energy.sum()
        times = np.arange(len(event)) / 16_000
        cut = 0.012 + 0.1 * (box.end_s - box.start_s)
        early, late = event[times < box.start_s + cut], event[times > box.end_s - cut]
        assert min(np.sum(early**2), np.sum(late**2)) > 0.005 * np.sum(event**2)


@pytest.mark.parametrize("label", EVENT_LABELS)
def test_events_have_unit_power_and_stay_in_the_common_band(label):
    for seed in range(20):
        event = draw(label, 16_000, seed)
        assert np.mean(event**2) == pytest.approx(1.0)
        assert np.isfinite(event).all()
        box = measure_box(label, event, start_s=0.0, clip_s=9.0, sample_rate_hz=16_000)
        assert box.fmin_hz >= LOWEST_HZ * 0.5 - 40.0
        assert box.fmax_hz <= 1.35 * TOP_HZ


def ridge(label: str, seed: int) -> np.ndarray:
    """Return the loudest frequency in each frame of the event."""
    power, _, bins = spectrogram(draw(label, 16_000, seed), 16_000)
    return bins[np.argmax(power[8:-8], axis=1)]


@pytest.mark.parametrize(("label", "sign"), [("chirp_up", 1), ("chirp_down", -1)])
def test_chirps_go_their_way(label, sign):
    for seed in range(8):
        steps = sign * np.diff(ridge(label, seed))
        assert steps.sum() > 100.0
        assert (steps >= 0).mean() > 0.95


def test_doppler_lines_fall_as_the_source_passes():
    for seed in range(8):
        line = ridge("tone_doppler", seed)
        assert line[-1] < line[0]
        assert 0.7 < line[-1] / line[0] < 0.98


def test_sweeps_come_back():
    for seed in range(8):
        turns = np.diff(np.sign(np.diff(ridge("sweep_sine", seed)[::4])))
        assert (np.abs(turns) > 0).sum() >= 3


def test_click_trains_are_regular_and_short():
    for seed in range(8):
        event = draw("click_train", 16_000, seed, duration_s=0.9)
        envelope = event**2 > 0.25 * np.max(event**2)
        starts = np.flatnonzero(np.diff(np.flatnonzero(envelope)) > 300)
        assert 7 <= len(starts) + 1 <= 28
        assert envelope.mean() < 0.08


def test_stacks_are_harmonic():
    for seed in range(8):
        event = draw("harmonic_stack", 16_000, seed, duration_s=1.0)
        power, _, bins = spectrogram(event, 16_000)
        mean = power.mean(axis=0)
        peaks = np.flatnonzero((mean[1:-1] > mean[:-2]) & (mean[1:-1] > mean[2:])) + 1
        strong = bins[peaks[mean[peaks] > 0.05 * mean.max()]]
        assert len(strong) >= 4
        np.testing.assert_allclose(np.diff(strong), np.diff(strong).mean(), atol=64.0)


def test_pulses_are_keyed_and_steady():
    for seed in range(8):
        event = draw("tone_pulses", 16_000, seed, duration_s=0.9)
        envelope = np.convolve(event**2, np.ones(160) / 160, mode="same")
        rises = np.sum(np.diff((envelope > 0.5 * envelope.max()).astype(int)) == 1)
        assert 4 <= rises <= 14
        assert np.ptp(ridge("tone_pulses", seed)) < 150.0


def test_noise_bands_have_no_line():
    for seed in range(8):
        energy = np.abs(np.fft.rfft(draw("noise_band", 16_000, seed))) ** 2
        assert energy.max() / energy.sum() < 0.2


def test_boxes_stay_inside_clip_and_band():
    event = draw("chirp_up", 16_000, 0)
    box = measure_box(
        "chirp_up", event, start_s=0.0, clip_s=len(event) / 16_000, sample_rate_hz=16_000
    )
    assert box.start_s == 0.0
    assert box.end_s <= len(event) / 16_000
    assert 0.0 <= box.fmin_hz < box.fmax_hz <= 8_000.0
