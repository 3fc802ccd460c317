"""Eight kinds of synthetic event -> a waveform and the box it fills in time and frequency.

Every event is drawn alone, so its box is known: the smallest rectangle with at most 0.5 % of the
event's energy beyond each of its four sides, measured on the event itself and grown by the smearing
of a spectrogram with 32 ms windows (12 ms and 40 Hz on each side). The kinds differ in their shape
in time and frequency, not in where they lie: bands and lengths overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float64]

FADE_S, LOWEST_HZ = 0.01, 200.0
BOX_TAIL, BOX_MARGIN_S, BOX_MARGIN_HZ = 0.005, 0.012, 40.0
SPEED_OF_SOUND_M_S = 343.0


@dataclass(frozen=True)
class EventBox:
    """A label from ``start_s`` to ``end_s`` and from ``fmin_hz`` to ``fmax_hz``."""

    label: str
    start_s: float
    end_s: float
    fmin_hz: float
    fmax_hz: float


def make_event(
    label: str, *, duration_s: float, sample_rate_hz: int, top_hz: float, rng: np.random.Generator
) -> Wave:
    """One event [S] of unit mean power, from 200 Hz to ``top_hz``, faded at both ends."""
    times = np.arange(max(round(duration_s * sample_rate_hz), 8)) / sample_rate_hz
    wave = EVENT_MAKERS[label](times, top_hz, rng) * _fade(times, sample_rate_hz)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)))


def measure_box(
    label: str, event: Wave, *, start_s: float, clip_s: float, sample_rate_hz: int
) -> EventBox:
    """The box of an event alone that starts at ``start_s`` in a clip of ``clip_s``."""
    first, last = _central_span(event**2)
    spectrum = np.abs(np.fft.rfft(event)) ** 2
    low, high = _central_span(spectrum)
    step_hz = sample_rate_hz / len(event)
    return EventBox(
        label=label,
        start_s=max(start_s + first / sample_rate_hz - BOX_MARGIN_S, 0.0),
        end_s=min(start_s + (last + 1) / sample_rate_hz + BOX_MARGIN_S, clip_s),
        fmin_hz=max(low * step_hz - BOX_MARGIN_HZ, 0.0),
        fmax_hz=min(high * step_hz + BOX_MARGIN_HZ, sample_rate_hz / 2),
    )


def _central_span(energy: Wave) -> tuple[int, int]:
    """The first and last index with at most ``BOX_TAIL`` of the energy beyond either."""
    share = np.cumsum(energy) / np.sum(energy)
    return int(np.searchsorted(share, BOX_TAIL)), int(np.searchsorted(share, 1.0 - BOX_TAIL))


def _fade(times: Wave, sample_rate_hz: int) -> Wave:
    ramp = max(min(round(FADE_S * sample_rate_hz), len(times) // 2), 1)
    rise = np.sin(0.5 * np.pi * (np.arange(ramp) + 0.5) / ramp) ** 2
    envelope = np.ones(len(times))
    envelope[:ramp], envelope[-ramp:] = rise, rise[::-1]
    return envelope


def _tone(times: Wave, frequency_hz: Wave | float, rng: np.random.Generator) -> Wave:
    """A sine whose frequency follows ``frequency_hz`` [S], from a random phase."""
    step_s = times[1] - times[0]
    turns = np.cumsum(np.broadcast_to(frequency_hz, times.shape)) * step_s
    return np.asarray(np.sin(2 * np.pi * (turns + rng.uniform())))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _chirp(times: Wave, top_hz: float, rng: np.random.Generator, *, rising: bool) -> Wave:
    """A sweep over 0.6 to 1.8 octaves, exponential in time."""
    octaves = rng.uniform(0.6, 1.8)
    low = _log_uniform(rng, 1.5 * LOWEST_HZ, top_hz / 2**octaves)
    progress = times / times[-1]
    return _tone(times, low * 2 ** (octaves * (progress if rising else 1 - progress)), rng)


def _click_train(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """Regular Gaussian-windowed clicks, 10 to 30 per second, about an octave wide."""
    rate_hz = rng.uniform(10.0, 30.0)
    centre_hz = _log_uniform(rng, 0.2 * top_hz, 0.6 * top_hz)
    width_s = rng.uniform(0.8, 1.4) / centre_hz
    wave = np.zeros_like(times)
    for click_s in np.arange(rng.uniform(0.2, 0.8) / rate_hz, times[-1], 1.0 / rate_hz):
        local = times - click_s
        near = np.abs(local) < 6 * width_s
        envelope = np.exp(-0.5 * (local[near] / width_s) ** 2)
        wave[near] += envelope * np.cos(2 * np.pi * centre_hz * local[near])
    if not wave.any():
        wave[len(wave) // 2] = 1.0
    return wave


def _harmonic_stack(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """4 to 8 harmonics of a slowly gliding fundamental, each up to 3 dB below the last."""
    count = int(rng.integers(4, 9))
    base = _log_uniform(rng, LOWEST_HZ, 0.9 * top_hz / count)
    glide = base * (1.0 + rng.uniform(-0.06, 0.06) * np.sin(np.pi * times / times[-1]))
    fall_db = rng.uniform(0.5, 3.0)
    waves = [10 ** (-fall_db * k / 20) * _tone(times, (k + 1) * glide, rng) for k in range(count)]
    return np.asarray(np.sum(waves, axis=0))


def _noise_band(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """Noise in a band of 0.3 to 0.8 octaves."""
    octaves = rng.uniform(0.3, 0.8)
    low = _log_uniform(rng, 2 * LOWEST_HZ, top_hz / 2**octaves)
    spectrum = np.fft.rfft(rng.standard_normal(len(times)))
    frequencies = np.fft.rfftfreq(len(times), times[1] - times[0])
    spectrum[(frequencies < low) | (frequencies > low * 2**octaves)] = 0.0
    return np.asarray(np.fft.irfft(spectrum, len(times)))


def _tone_doppler(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """A tone as its source passes by at 20 to 45 m/s (falling s-shape of frequency)."""
    speed = rng.uniform(20.0, 45.0)
    distance = rng.uniform(0.8, 3.0)
    pass_s = times[-1] * rng.uniform(0.35, 0.65)
    along = speed * (times - pass_s)
    radial = speed * along / np.hypot(along, distance)
    rest_hz = _log_uniform(rng, 2 * LOWEST_HZ, 0.85 * top_hz)
    return _tone(times, rest_hz / (1.0 + radial / SPEED_OF_SOUND_M_S), rng)


def _sweep_sine(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """A tone whose frequency swings up and down 2 to 4 times over 0.3 to 0.9 octaves."""
    half_octaves = rng.uniform(0.15, 0.45)
    centre = _log_uniform(rng, 2.5 * LOWEST_HZ, top_hz / 2**half_octaves)
    swings = rng.uniform(2.0, 4.0)
    swing = np.sin(2 * np.pi * (swings * times / times[-1] + rng.uniform()))
    return _tone(times, centre * 2 ** (half_octaves * swing), rng)


def _tone_pulses(times: Wave, top_hz: float, rng: np.random.Generator) -> Wave:
    """A steady tone keyed on and off 6 to 14 times per second."""
    rate_hz = rng.uniform(6.0, 14.0)
    keyed = np.sin(2 * np.pi * (rate_hz * times + rng.uniform()))
    envelope = 1.0 / (1.0 + np.exp(-8.0 * keyed))
    return _tone(times, _log_uniform(rng, 2 * LOWEST_HZ, 0.9 * top_hz), rng) * envelope


EVENT_MAKERS: dict[str, Callable[[Wave, float, np.random.Generator], Wave]] = {
    "chirp_down": partial(_chirp, rising=False),
    "chirp_up": partial(_chirp, rising=True),
    "click_train": _click_train,
    "harmonic_stack": _harmonic_stack,
    "noise_band": _noise_band,
    "sweep_sine": _sweep_sine,
    "tone_doppler": _tone_doppler,
    "tone_pulses": _tone_pulses,
}
EVENT_LABELS = tuple(EVENT_MAKERS)
