"""The user's overrides checked against the data set and each other; impossible ones are errors.

Errors name the command-line option, what is wrong, and what would work.
"""

from __future__ import annotations

import math

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.base.errors import ConfigError
from xmoe.base.units import format_hz
from xmoe.glance.stem import stem_columns
from xmoe.policy.experts import available_experts
from xmoe.policy.records import PolicyOverrides
from xmoe.profile.profile import Profile

BIN_STEP = 16
MOST_BINS = 512
SHORTEST_S, LONGEST_S = 0.02, 60.0


def check_overrides(profile: Profile, overrides: PolicyOverrides) -> None:
    """Raise ConfigError for overrides that contradict each other or the recordings.

    What depends on the finished front end is left to ``check_against_spectro``.
    """
    _check_rate_and_band(profile, overrides)
    _check_sizes(overrides)
    _check_experts(overrides)


def check_against_spectro(
    profile: Profile, spectro: SpectroConfig, overrides: PolicyOverrides
) -> None:
    """Raise ConfigError if k_max or window_frames do not fit the front end and the experts."""
    available = available_experts(profile, spectro, overrides)
    if overrides.k_max is not None and not 0 <= overrides.k_max <= available:
        what = f"{overrides.k_max} experts per segment, but {available} may be chosen"
        mend = f"give 0 to {available}, or name the experts with --experts"
        raise ConfigError(what, where="--k-max", mend=mend)
    columns = stem_columns(spectro.num_frames)
    if overrides.window_frames is not None and not 1 <= overrides.window_frames <= columns:
        what = f"a window of {overrides.window_frames} columns, but a segment has {columns}"
        mend = f"give 1 to {columns}, or a longer --segment"
        raise ConfigError(what, where="--window-frames", mend=mend)


def _check_rate_and_band(profile: Profile, overrides: PolicyOverrides) -> None:
    given = overrides.sample_rate_hz
    if given is not None and not 1000 <= given <= 384_000:
        what = f"a sample rate of {given} Hz is outside 1000 to 384000 Hz"
        raise ConfigError(what, where="--sample-rate", mend="give it in Hz, as 16000")
    if overrides.band_hz is None:
        return
    low_hz, high_hz = overrides.band_hz
    if not (0 <= low_hz < high_hz and math.isfinite(high_hz)):
        what = f"the band {low_hz:g} to {high_hz:g} Hz does not rise"
        raise ConfigError(what, where="--band", mend="give the lower edge first, as 50:8000")
    nyquist_hz = (given if given is not None else max(profile.fs_unique)) / 2
    if high_hz > nyquist_hz:
        which = "given" if given is not None else "highest"
        what = (
            f"the band ends at {format_hz(high_hz)}, above half the {which} sample rate "
            f"({format_hz(nyquist_hz)})"
        )
        mend = f"end it at {nyquist_hz:g} Hz or lower"
        mend += ", or raise --sample-rate" if given is not None else ""
        raise ConfigError(what, where="--band", mend=mend)


def _check_sizes(overrides: PolicyOverrides) -> None:
    bins, segment_s = overrides.num_bins, overrides.segment_s
    if bins is not None and (bins % BIN_STEP or not BIN_STEP <= bins <= MOST_BINS):
        nearest = min(max(round(bins / BIN_STEP), 1) * BIN_STEP, MOST_BINS)
        what = f"{bins} rows: the stem needs a multiple of {BIN_STEP}, up to {MOST_BINS}"
        raise ConfigError(what, where="--num-bins", mend=f"give {nearest}")
    if segment_s is not None and not SHORTEST_S <= segment_s <= LONGEST_S:
        what = f"a segment of {segment_s:g} s is outside {SHORTEST_S:g} to {LONGEST_S:g} s"
        mend = "give it in seconds, as 3; longer clips are cut into segments"
        raise ConfigError(what, where="--segment", mend=mend)


def _check_experts(overrides: PolicyOverrides) -> None:
    wish, count = overrides.experts, len(EXPERT_NAMES)
    if isinstance(wish, int):
        if not 1 <= wish <= count:
            what, mend = f"{wish} experts, but there are {count}", f"give 1 to {count}, or names"
            raise ConfigError(what, where="--experts", mend=mend)
        return
    if wish is None:
        return
    unknown = [name for name in wish if name not in EXPERT_NAMES]
    if unknown or not wish:
        what = f"no expert is called {', '.join(unknown)}" if unknown else "no expert is named"
        mend = f"the experts are {', '.join(EXPERT_NAMES)}"
        raise ConfigError(what, where="--experts", mend=mend)
    if twice := sorted({name for name in wish if wish.count(name) > 1}):
        what = f"named more than once: {', '.join(twice)}"
        raise ConfigError(what, where="--experts", mend="name each expert once")
