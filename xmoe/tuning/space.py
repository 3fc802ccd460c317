"""What a search may choose from, and one candidate as the policy's overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from xmoe.base.config import EXPERT_NAMES, FrontendName, Frozen
from xmoe.glance.stem import stem_columns
from xmoe.policy.policy import PolicyOverrides
from xmoe.policy.records import Policy


class TuneCandidate(Frozen):
    """The settings of one trial: front end, resolution, experts, K, windows, learning rate."""

    frontend: FrontendName
    num_bins: int = Field(ge=16, multiple_of=16)
    num_experts: int = Field(ge=1)
    k_max: int = Field(ge=0)
    window_frames: int = Field(ge=1)
    learning_rate: float = Field(gt=0.0)

    def overrides(self) -> PolicyOverrides:
        return PolicyOverrides(
            frontend=self.frontend,
            num_bins=self.num_bins,
            experts=self.num_experts,
            k_max=self.k_max,
            window_frames=self.window_frames,
        )


class SearchSpace(Frozen):
    """The values that a search may take."""

    frontends: tuple[FrontendName, ...] = Field(default=("logmel", "pcen", "stft"), min_length=1)
    num_bins: tuple[int, ...] = Field(default=(32, 64, 96), min_length=1)
    most_experts: int = Field(default=len(EXPERT_NAMES), ge=1, le=len(EXPERT_NAMES))
    most_k: int = Field(default=4, ge=1)
    window_frames: tuple[int, ...] = Field(default=(2, 4, 8), min_length=1)
    learning_rates: tuple[float, float] = (1e-3, 1e-2)

    def suggest(self, trial: Any) -> None:
        """Ask an Optuna trial for every value; ``read_candidate`` bounds K by the experts."""
        trial.suggest_categorical("frontend", self.frontends)
        trial.suggest_categorical("num_bins", self.num_bins)
        trial.suggest_int("num_experts", 1, self.most_experts)
        trial.suggest_int("k_max", 0, self.most_k)
        trial.suggest_categorical("window_frames", self.window_frames)
        low, high = self.learning_rates
        trial.suggest_float("learning_rate", low, high, log=True)

    def fit_to(self, policy: Policy) -> SearchSpace:
        """Restrict the space to a policy's experts and segment, with its own choice included."""
        experts = count_experts(policy)
        columns = stem_columns(policy.spectro.num_frames)
        windows = {width for width in self.window_frames if width <= columns}
        return self.model_copy(
            update={
                "num_bins": tuple(sorted({*self.num_bins, policy.spectro.num_bins})),
                "most_experts": experts,
                "most_k": min(max(self.most_k, policy.k_max), experts),
                "window_frames": tuple(sorted(windows | {policy.window_frames})),
            }
        )


def read_candidate(values: Mapping[str, Any]) -> TuneCandidate:
    """The candidate that suggested values mean; other values are ignored."""
    own = {name: values[name] for name in TuneCandidate.model_fields}
    return TuneCandidate(**{**own, "k_max": min(int(own["k_max"]), int(own["num_experts"]))})


def point_of(policy: Policy, learning_rate: float) -> dict[str, Any]:
    """A policy's own choice as a point of the space that was fitted to it."""
    return {
        "frontend": policy.spectro.frontend,
        "num_bins": policy.spectro.num_bins,
        "num_experts": count_experts(policy),
        "k_max": policy.k_max,
        "window_frames": policy.window_frames,
        "learning_rate": learning_rate,
    }


def count_experts(policy: Policy) -> int:
    return len(set(policy.experts) - set(policy.masked_experts))
