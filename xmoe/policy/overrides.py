"""The user's wishes against the data set and each other: a wish that cannot work is an error.

Errors name the option of the command line, what is wrong, and what would work.
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
    """Raise ConfigError for wishes that contradict each other or the recordings.

    What depends on the finished front end is left to ``check_against_spectro``.
    """
    _check_rate(overrides)
    _check_band(profile, overrides)
    _check_bins(overrides)
    _check_segment(overrides)
    _check_experts(overrides)


def check_against_spectro(
    profile: Profile, spectro: SpectroConfig, overrides: PolicyOverrides
) -> None:
    """Raise ConfigError where k_max or window_frames do not fit the front end and the experts."""
    available = available_experts(profile, spectro, overrides)
    if overrides.k_max is not None and not 0 <= overrides.k_max <= available:
        raise ConfigError(
            f"{overrides.k_max} experts per segment, but {available} may be chosen",
            where="--k-max",
            mend=f"give 0 to {available}, or name the experts with --experts",
        )
    columns = stem_columns(spectro.num_frames)
    if overrides.window_frames is not None and not 1 <= overrides.window_frames <= columns:
        raise ConfigError(
            f"a window of {overrides.window_frames} columns, but a segment has {columns}",
            where="--window-frames",
            mend=f"give 1 to {columns}, or a longer --segment",
        )


def _check_rate(overrides: PolicyOverrides) -> None:
    rate = overrides.sample_rate_hz
    if rate is not None and not 1000 <= rate <= 384_000:
        raise ConfigError(
            f"a sample rate of {rate} Hz is outside 1000 to 384000 Hz",
            where="--sample-rate",
            mend="give it in Hz, as 16000",
        )


def _check_band(profile: Profile, overrides: PolicyOverrides) -> None:
    if overrides.band_hz is None:
        return
    low_hz, high_hz = overrides.band_hz
    if not (0 <= low_hz < high_hz and math.isfinite(high_hz)):
        raise ConfigError(
            f"the band {low_hz:g} to {high_hz:g} Hz does not rise",
            where="--band",
            mend="give the lower edge first, as 50:8000",
        )
    given = overrides.sample_rate_hz
    rate = given if given is not None else max(profile.fs_unique)
    if high_hz > rate / 2:
        which = "given" if given is not None else "highest"
        raise ConfigError(
            f"the band ends at {format_hz(high_hz)}, above half the {which} sample rate "
            f"({format_hz(rate / 2)})",
            where="--band",
            mend=f"end it at {rate / 2:g} Hz or lower"
            + (", or raise --sample-rate" if given is not None else ""),
        )


def _check_bins(overrides: PolicyOverrides) -> None:
    bins = overrides.num_bins
    if bins is None or (bins % BIN_STEP == 0 and BIN_STEP <= bins <= MOST_BINS):
        return
    nearest = min(max(round(bins / BIN_STEP), 1) * BIN_STEP, MOST_BINS)
    raise ConfigError(
        f"{bins} rows: the stem needs a multiple of {BIN_STEP}, up to {MOST_BINS}",
        where="--num-bins",
        mend=f"give {nearest}",
    )


def _check_segment(overrides: PolicyOverrides) -> None:
    segment_s = overrides.segment_s
    if segment_s is not None and not SHORTEST_S <= segment_s <= LONGEST_S:
        raise ConfigError(
            f"a segment of {segment_s:g} s is outside {SHORTEST_S:g} to {LONGEST_S:g} s",
            where="--segment",
            mend="give it in seconds, as 3; longer clips are cut into segments",
        )


def _check_experts(overrides: PolicyOverrides) -> None:
    wish = overrides.experts
    known = f"known are {', '.join(EXPERT_NAMES)}"
    if wish is None:
        return
    if isinstance(wish, int):
        if not 1 <= wish <= len(EXPERT_NAMES):
            what = f"{wish} experts, but there are {len(EXPERT_NAMES)}"
            mend = f"give 1 to {len(EXPERT_NAMES)}, or names"
            raise ConfigError(what, where="--experts", mend=mend)
        return
    unknown = [name for name in wish if name not in EXPERT_NAMES]
    if unknown or not wish:
        what = f"no expert is called {', '.join(unknown)}" if unknown else "no expert is named"
        raise ConfigError(what, where="--experts", mend=known)
    if len(set(wish)) != len(wish):
        twice = sorted({name for name in wish if wish.count(name) > 1})
        what = f"named more than once: {', '.join(twice)}"
        raise ConfigError(what, where="--experts", mend="name each expert once")
