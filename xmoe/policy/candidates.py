"""The settings that the rules chose -> the front ends that compete for their place.

All candidates have the same rate, band, rows, frames and segments, so that the model and its cost
stay as they are; what differs is the axis of frequency, the window and the compression.
"""

from __future__ import annotations

from xmoe.base.config import SpectroConfig

FINE_FACTOR = 2
NARROW_RATIO = 2.0
PCEN_LEAST_S = 0.4
CWT_MOST_SAMPLES = 12_000_000


def list_candidates(spectro: SpectroConfig, *, num_clips: int) -> dict[str, SpectroConfig]:
    """Return the contenders by name, ``spectro`` itself first.

    PCEN needs clips as long as its running mean, CQT a band of an octave or more; CWT costs most
    and races only where it takes seconds.
    """
    found: dict[str, SpectroConfig] = {spectro.frontend: spectro}
    fine = {
        "win_length": FINE_FACTOR * spectro.win_length,
        "n_fft": FINE_FACTOR * spectro.n_fft,
    }
    if fine["n_fft"] <= spectro.segment_samples:
        found[f"{spectro.frontend}_fine"] = spectro.model_copy(update=fine)
    if spectro.segment_s >= PCEN_LEAST_S:
        found["pcen"] = spectro.model_copy(update={"frontend": "pcen"})
    found["stft"] = spectro.model_copy(update={"frontend": "stft"})
    if spectro.fmax_hz >= NARROW_RATIO * max(spectro.fmin_hz, 1.0):
        found["cqt"] = spectro.model_copy(update={"frontend": "cqt"})
        if num_clips * spectro.segment_samples <= CWT_MOST_SAMPLES:
            found["cwt"] = spectro.model_copy(update={"frontend": "cwt"})
    return found
