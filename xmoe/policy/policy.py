"""Profile (and training clips) -> Policy: rules first, then a race of the remaining front ends.

It looks at clips of the train split only, once, with a classifier in closed form. The same seed
gives the same policy.
"""

from __future__ import annotations

from typing import Literal

from xmoe.audio.dataset import Dataset
from xmoe.base.config import SpectroConfig
from xmoe.base.progress import Progress, silent
from xmoe.policy.experts import decide_experts, find_masks
from xmoe.policy.overrides import check_against_spectro, check_overrides
from xmoe.policy.race import choose_clips, list_candidates, reason_to_skip, run_race
from xmoe.policy.records import Candidate, Choice, Policy, PolicyOverrides, Race
from xmoe.policy.rules import decide_spectro
from xmoe.profile.profile import Profile

__all__ = ["Candidate", "Choice", "Policy", "PolicyOverrides", "Race", "choose_policy"]

Method = Literal["race", "rule"]
RACED = ("frontend", "win_length", "n_fft")
NO_OVERRIDES = PolicyOverrides()


def choose_policy(
    profile: Profile,
    dataset: Dataset | None = None,
    *,
    method: Method = "race",
    overrides: PolicyOverrides = NO_OVERRIDES,
    seed: int = 0,
    progress: Progress = silent,
) -> Policy:
    """The settings for a profiled data set, each with its reason.

    ``method`` ``rule`` decides from the profile alone. Raises ConfigError for ``overrides`` that
    contradict the recordings or each other.
    """
    check_overrides(profile, overrides)
    spectro, choices = decide_spectro(profile, overrides)
    check_against_spectro(profile, spectro, overrides)
    race, skipped = _race(
        profile, dataset, spectro, method=method, wishes=overrides, seed=seed, progress=progress
    )
    if race is not None:
        spectro = next(one.spectro for one in race.candidates if one.name == race.winner)
        choices = [_after_race(choice, spectro, race) for choice in choices]
    choices += decide_experts(profile, spectro, overrides)
    values = {choice.name: choice.value for choice in choices}
    masks = find_masks(profile, spectro)
    return Policy(
        spectro=spectro,
        experts=values["experts"],
        masked_experts=values["masked_experts"],
        mask_reasons={name: masks[name] for name in values["masked_experts"]},
        expert_priors=values["expert_priors"],
        k_max=values["k_max"],
        window_frames=values["window_frames"],
        choices=tuple(choices),
        race=race,
        race_skipped=skipped,
    )


def _race(
    profile: Profile,
    dataset: Dataset | None,
    spectro: SpectroConfig,
    *,
    method: Method,
    wishes: PolicyOverrides,
    seed: int,
    progress: Progress,
) -> tuple[Race | None, str | None]:
    """The race, or None and the reason why there was none."""
    if method == "rule":
        return None, "not requested: the rules alone decide"
    if wishes.frontend is not None:
        return None, "the front end was given"
    if dataset is None:
        return None, "there is only a profile, no recordings"
    mean_duration_s = profile.total_duration_s / profile.num_clips
    examples = choose_clips(dataset, mean_duration_s=mean_duration_s, seed=seed)
    reason = reason_to_skip(examples)
    if reason:
        return None, reason
    candidates = list_candidates(spectro, num_clips=len(examples))
    race = run_race(dataset, examples, candidates, seed=seed, progress=progress)
    return (None, race) if isinstance(race, str) else (race, None)


def _after_race(choice: Choice, spectro: SpectroConfig, race: Race) -> Choice:
    """A choice as the race leaves it: the front end, its window and FFT may change."""
    table = {one.name: one for one in race.candidates}
    first, winner, second = race.candidates[0], table[race.winner], table[race.runner_up]
    where = f"in a race on {race.num_clips} training clips, clean and noisy"
    if choice.name == "frontend" and winner is first:
        reason = (
            f"{first.name} keeps its place with {first.accuracy:.1%} {where}: the best of the "
            f"others, {second.name}, gains {second.gain:+.1%} +- {second.gain_se:.1%}; the best of "
            f"{len(table) - 1} must gain {race.bar:.2g} standard errors{_left_out(race)}"
        )
        return choice.model_copy(update={"source": "race", "reason": reason})
    changed = choice.name in RACED and choice.value != getattr(spectro, choice.name)
    if choice.name != "frontend" and not changed:
        return choice
    reason = (
        f"{winner.name} won with {winner.accuracy:.1%} {where}: {winner.gain:+.1%} +- "
        f"{winner.gain_se:.1%} over {first.name}; next is {second.name} with {second.accuracy:.1%}"
        f"{_left_out(race)}"
    )
    value = getattr(spectro, choice.name)
    return choice.model_copy(update={"value": value, "source": "race", "reason": reason})


def _left_out(race: Race) -> str:
    """Who did not race, and why."""
    if not race.too_dear:
        return ""
    return f"; too dear to be heard for every clip: {', '.join(race.too_dear)}"
