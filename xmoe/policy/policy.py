"""Profile (and training clips) -> Policy: rules first, then the race of front ends that they leave.

Departs from tuning in what it costs and in what it sees: only clips of the train split, once, with
a classifier in closed form. The same seed gives the same policy.
"""

from __future__ import annotations

from typing import Literal

from xmoe.audio.dataset import Dataset
from xmoe.policy.experts import decide_experts
from xmoe.policy.overrides import check_against_spectro, check_overrides
from xmoe.policy.records import Candidate, Choice, Policy, PolicyOverrides, Race
from xmoe.policy.rules import decide_spectro
from xmoe.profile.profile import Profile
from xmoe.progress import Progress, silent

__all__ = ["Candidate", "Choice", "Policy", "PolicyOverrides", "Race", "choose_policy"]

Method = Literal["race", "rule"]
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
    """Return the settings for a profiled data set, each with its reason.

    ``method`` ``rule`` decides from the profile alone. Raises ConfigError for ``overrides`` that
    contradict the recordings or each other.
    """
    check_overrides(profile, overrides)
    spectro, choices = decide_spectro(profile, overrides)
    check_against_spectro(profile, spectro, overrides)
    choices += decide_experts(profile, spectro, overrides)
    values = {choice.name: choice.value for choice in choices}
    policy = Policy.model_validate(
        {name: values[name] for name in Policy.model_fields if name in values}
        | {"spectro": spectro, "choices": choices}
    )
    return policy
