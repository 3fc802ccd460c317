"""Profile -> warnings in plain words: what in this data set may mislead a classifier or its user.

Each rule is a function of the profile that returns a sentence or None.
"""

from __future__ import annotations

from collections.abc import Callable

from xmoe.base.units import format_hz
from xmoe.profile.profile import Profile

TINY_CLASS = 10
IMBALANCED = 5.0
NOTABLE_FRACTION = 0.05
FEW_CLIPS_PER_CLASS = 20

FEATURE_WORDS = {
    "sample_rate": "sample rate",
    "bit_depth": "bit depth",
    "encoding": "file format and number of channels",
    "duration": "duration",
    "level": "level (RMS)",
    "band_limit": "codec or upsampling limit",
    "joint": "rate, bit depth, format, duration and level",
}


def advise(profile: Profile) -> list[str]:
    """Every warning that applies, the most serious kind first."""
    found = (rule(profile) for rule in RULES)
    return [sentence for sentence in found if sentence]


def _names(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _unreadable(profile: Profile) -> str | None:
    if not profile.num_quarantined:
        return None
    codes = _names([f"{code} {count}" for code, count in profile.quarantine_codes.items()])
    total = profile.num_quarantined + profile.num_clips
    return (
        f"{profile.num_quarantined} of {total} recordings cannot be used ({codes}) and are left "
        "out; the quarantine list says what to do."
    )


def _leak(profile: Profile) -> str | None:
    leak = profile.leakage
    if not leak.leaking:
        return None
    best = max(leak.leaking, key=lambda name: leak.accuracy[name])
    others = [FEATURE_WORDS[name] for name in leak.leaking if name not in (best, "joint")]
    also = f" Above chance by themselves: {_names(others)}." if others else ""
    mend = "check that recorder, codec or editing does not depend on the class"
    if leak.folds != "group":
        mend += ", and name clips of one recording in a `group` column"
    return (
        f"Format leakage: without listening, {FEATURE_WORDS[best]} alone can reach a balanced "
        f"accuracy of {leak.accuracy[best]:.0%} (chance {leak.chance:.0%}).{also} Some of any "
        f"score may come from there; {mend}."
    )


def _mixed_rates(profile: Profile) -> str | None:
    if len(profile.fs_unique) < 2:
        return None
    ranked = sorted(profile.fs_unique.items(), key=lambda item: (-item[1], item[0]))
    rates = _names([f"{count} at {format_hz(rate)}" for rate, count in ranked])
    return f"Mixed sample rates ({rates}): all are resampled to one rate."


def _band_limited(profile: Profile) -> str | None:
    if profile.band_limited_fraction < NOTABLE_FRACTION or profile.band_limit_hz is None:
        return None
    return (
        f"{profile.band_limited_fraction:.0%} of the recordings hold nothing above a codec or "
        f"upsampling limit (median {format_hz(profile.band_limit_hz)}); a classifier can learn the "
        "codec instead of the sound."
    )


def _missing_in_split(profile: Profile) -> str | None:
    gaps = []
    for split in ("train", "test"):
        if split in profile.splits:
            names = [name for name, own in profile.classes.items() if split not in own.splits]
            if names:
                gaps.append(f"no {split} clip of {_names(names)}")
    return f"Classes are missing from a split: {'; '.join(gaps)}." if gaps else None


def _few_classes(profile: Profile) -> str | None:
    if len(profile.classes) >= 2:
        return None
    return "There are fewer than two classes: there is nothing to tell apart."


def _tiny_classes(profile: Profile) -> str | None:
    tiny = [
        f"{name} {own.count}" for name, own in profile.classes.items() if own.count < TINY_CLASS
    ]
    if not tiny:
        return None
    who = "1 class has" if len(tiny) == 1 else f"{len(tiny)} classes have"
    return f"{who} fewer than {TINY_CLASS} clips ({_names(tiny)})."


def _imbalance(profile: Profile) -> str | None:
    if profile.imbalance < IMBALANCED:
        return None
    sizes = {name: own.count for name, own in profile.classes.items()}
    large, small = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    return (
        f"The classes are unequal: {large} has {profile.imbalance:.3g} times as many clips as "
        f"{small}. Read balanced accuracy and macro F1, not accuracy."
    )


def _few_clips(profile: Profile) -> str | None:
    if profile.num_clips >= FEW_CLIPS_PER_CLASS * len(profile.classes):
        return None
    return (
        f"{profile.num_clips} clips for {len(profile.classes)} classes is little: expect wide "
        "intervals."
    )


def _duplicates(profile: Profile) -> str | None:
    if not profile.num_duplicates:
        return None
    return f"{profile.num_duplicates} clips repeat the exact content of another clip."


def _clipping(profile: Profile) -> str | None:
    if profile.clipped_fraction < NOTABLE_FRACTION:
        return None
    return f"{profile.clipped_fraction:.0%} of the recordings are clipped (over 0.1 % of samples)."


def _near_silence(profile: Profile) -> str | None:
    if not profile.near_silent_fraction:
        return None
    count = round(profile.near_silent_fraction * profile.num_clips)
    return (
        f"{count} recordings are silent or nearly so (RMS under -70 dB re full scale, or 95 % "
        "silence)."
    )


RULES: tuple[Callable[[Profile], str | None], ...] = (
    _few_classes,
    _unreadable,
    _leak,
    _missing_in_split,
    _duplicates,
    _mixed_rates,
    _band_limited,
    _tiny_classes,
    _imbalance,
    _few_clips,
    _clipping,
    _near_silence,
)
