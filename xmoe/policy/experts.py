"""Profile -> which experts a mixture has, which of them are masked, and how many may answer.

A masked expert exists but is never chosen. Masks are hard constraints from the recordings: an
expert whose band is empty, or whose detail is lost in noise, can only guess.
"""

from __future__ import annotations

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.base.units import format_hz
from xmoe.glance.stem import DECIMATION, stem_columns
from xmoe.policy.records import Choice, PolicyOverrides
from xmoe.policy.rules import NARROW_RATIO
from xmoe.profile.profile import Profile

HIGH_BAND_HZ = 2000.0
LOW_QUALITY = 0.35
BAND_EXPERTS = ("low", "high", "mid", "high_band")
TRANSIENT = 0.3
K_MAX = 3
TINY_SET, TINY_K_MAX = 100, 2  # so few clips cannot show when a third expert helps
WINDOW_FRAMES = 4


def decide_experts(
    profile: Profile, spectro: SpectroConfig, overrides: PolicyOverrides
) -> list[Choice]:
    """The choices experts, masked_experts, expert_priors, k_max and window_frames.

    ``overrides`` must have passed ``check_overrides``.
    """
    masks = find_masks(profile, spectro)
    experts, masked = _pick_experts(masks, overrides)
    names = [name for name in experts.value if name not in masked.value]
    return [
        experts,
        masked,
        _priors(profile, names),
        _k_max(profile, overrides, len(names)),
        _window(spectro, overrides),
    ]


def find_masks(profile: Profile, spectro: SpectroConfig) -> dict[str, str]:
    """The experts that the recordings rule out, each with the reason."""
    masks: dict[str, str] = {}
    if spectro.fmax_hz < NARROW_RATIO * spectro.fmin_hz:
        reason = (
            f"the band {format_hz(spectro.fmin_hz)} to {format_hz(spectro.fmax_hz)} is less than "
            f"an octave, parts of it would be slivers"
        )
        masks |= dict.fromkeys(BAND_EXPERTS, reason)
    if profile.fmax_eff_hz < HIGH_BAND_HZ:
        masks["high_band"] = (
            f"the effective band ends at {format_hz(profile.fmax_eff_hz)}, under "
            f"{format_hz(HIGH_BAND_HZ)}"
        )
    if profile.quality < LOW_QUALITY:
        masks["fine_frequency"] = (
            f"quality {profile.quality:.2f} is under {LOW_QUALITY}: fine detail is mostly noise"
        )
    return masks


def available_experts(profile: Profile, spectro: SpectroConfig, overrides: PolicyOverrides) -> int:
    """How many experts may be chosen, given the user's overrides and the masks."""
    if isinstance(overrides.experts, int):
        return overrides.experts
    if overrides.experts is not None:
        return len(overrides.experts)
    return len(EXPERT_NAMES) - len(find_masks(profile, spectro))


def _pick_experts(masks: dict[str, str], overrides: PolicyOverrides) -> tuple[Choice, Choice]:
    """The experts and which of them are masked; the user's own are never masked."""
    wish = overrides.experts
    if wish is None:
        reason = "all eight: they differ in band and in the shape of their kernels"
        words = "; ".join(f"{name}: {why}" for name, why in masks.items())
        masked = Choice(
            name="masked_experts",
            value=[name for name in EXPERT_NAMES if name in masks],
            reason=words or "band and quality rule no expert out",
        )
        return Choice(name="experts", value=list(EXPERT_NAMES), reason=reason), masked
    if isinstance(wish, int):
        ranked = sorted(EXPERT_NAMES, key=lambda name: name in masks)
        names = [name for name in EXPERT_NAMES if name in ranked[:wish]]
        reason = f"{wish} requested: the first in the list that the recordings do not rule out"
    else:
        names, reason = list(wish), "given"
    ruled_out = "; ".join(f"{name}: {masks[name]}" for name in names if name in masks)
    masked_reason = f"none, as given, though the rules advise against {ruled_out}"
    return (
        Choice(name="experts", value=names, reason=reason, source="user"),
        Choice(
            name="masked_experts",
            value=[],
            reason=masked_reason if ruled_out else "band and quality rule none of them out",
            source="user" if ruled_out else "rule",
        ),
    )


def _priors(profile: Profile, names: list[str]) -> Choice:
    score = profile.transient
    if score < TRANSIENT or "transient" not in names:
        reason = f"transient score {score:.2f}: no expert is favoured before training"
        return Choice(name="expert_priors", value={}, reason=reason)
    reason = (
        f"transient score {score:.2f} is at least {TRANSIENT}: clicks and onsets are frequent, the "
        f"router starts out in favour of the transient expert"
    )
    return Choice(name="expert_priors", value={"transient": round(1.0 + score, 2)}, reason=reason)


def _k_max(profile: Profile, overrides: PolicyOverrides, available: int) -> Choice:
    if overrides.k_max is not None:
        return Choice.given("k_max", overrides.k_max)
    train = profile.splits.get("train", profile.num_clips)
    if train < TINY_SET:
        value = TINY_K_MAX
        reason = f"{train} training clips are too few to learn when a third expert helps"
    else:
        value, reason = K_MAX, "more than two experts added about 0.1 points; three leave room"
    if value > available:
        value, reason = available, f"no more than {available} experts may be chosen"
    return Choice(name="k_max", value=value, reason=reason)


def _window(spectro: SpectroConfig, overrides: PolicyOverrides) -> Choice:
    if overrides.window_frames is not None:
        return Choice.given("window_frames", overrides.window_frames)
    columns = stem_columns(spectro.num_frames)
    value = max(min(WINDOW_FRAMES, columns // WINDOW_FRAMES), 1)
    duration_s = value * DECIMATION / spectro.frame_rate_hz
    reason = (
        f"patches are all rows of an expert's band by {value} columns of the stem map: "
        f"{duration_s:.2g} s each, {-(-columns // value)} in a segment"
    )
    return Choice(name="window_frames", value=value, reason=reason)
