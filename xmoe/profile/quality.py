"""Rows of ClipStats -> quality Q and transient score, both in [0, 1].

Q of a clip is a weighted geometric mean, so one ruined aspect pulls the whole down:

    Q = snr^0.4 * clipping^0.2 * activity^0.2 * bandwidth^0.2

    snr        (snr_db + 10) / 40, kept in [0.05, 1]:  -10 dB -> 0.05, 30 dB -> 1
    clipping   1 - clipping_rate / 0.02, kept in [0, 1]:  2 % of clipped samples -> 0
    activity   1 - silence_rate
    bandwidth  band_limit_hz / Nyquist for a band-limited file, else 1

Q of a data set is the mean over its readable clips times the share of clips that are readable. The
SNR term never falls below 0.05 because the proxy cannot tell steady broad sound from noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from xmoe.profile.clip_stats import ClipStats

WEIGHTS = {"snr": 0.4, "clipping": 0.2, "activity": 0.2, "bandwidth": 0.2}
CLIPPING_RUINS = 0.02
SNR_WORST_DB, SNR_BEST_DB, SNR_LEAST = -10.0, 30.0, 0.05
TRANSIENT_KURTOSIS = 10.0


class Measured(Protocol):
    """The measures that the quality of a clip depends on; see ``ClipStats``."""

    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def snr_db(self) -> float: ...
    @property
    def clipping_rate(self) -> float: ...
    @property
    def silence_rate(self) -> float: ...
    @property
    def band_limit_hz(self) -> float | None: ...


def quality_parts(row: Measured) -> dict[str, float]:
    """The four parts of a clip's quality, each in [0, 1]."""
    snr = (row.snr_db - SNR_WORST_DB) / (SNR_BEST_DB - SNR_WORST_DB)
    nyquist_hz = row.sample_rate_hz / 2
    return {
        "snr": min(max(snr, SNR_LEAST), 1.0),
        "clipping": min(max(1.0 - row.clipping_rate / CLIPPING_RUINS, 0.0), 1.0),
        "activity": 1.0 - row.silence_rate,
        "bandwidth": 1.0 if row.band_limit_hz is None else row.band_limit_hz / nyquist_hz,
    }


def clip_quality(row: Measured) -> float:
    """Q of one clip in [0, 1]; the formula is at the top of this module."""
    parts = quality_parts(row)
    return float(math.prod(parts[name] ** weight for name, weight in WEIGHTS.items()))


def dataset_quality(rows: Sequence[ClipStats], *, num_unreadable: int = 0) -> float:
    """Mean clip quality times the readable share; 0 without readable clips."""
    if not rows:
        return 0.0
    return math.fsum(map(clip_quality, rows)) / (len(rows) + num_unreadable)


def transient_score(rows: Sequence[ClipStats]) -> float:
    """Mean of k / (k + 10), k the excess kurtosis of a clip (at least 0).

    Steady noise and ships give 0, running speech about 0.3, ticks and crackles 0.7 and more.
    """
    if not rows:
        return 0.0
    positive = [max(row.kurtosis, 0.0) for row in rows]
    return math.fsum(k / (k + TRANSIENT_KURTOSIS) for k in positive) / len(rows)
