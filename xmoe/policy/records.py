"""The records of a policy: choices with their reasons, the race behind them, the overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from xmoe.base.config import (
    CnnSpec,
    ExpertSpec,
    FrontendName,
    Frozen,
    ModelConfig,
    SpectroConfig,
    TaskName,
)
from xmoe.base.units import edges_between
from xmoe.experts.cnn import band_rows
from xmoe.frontend.registry import build_frontend
from xmoe.glance.stem import DECIMATION

SCHEMA_VERSION = 1

Source = Literal["rule", "race", "user"]


class PolicyOverrides(Frozen):
    """What the user fixed; None leaves the choice to the policy.

    ``experts`` is how many, or which by name.
    """

    frontend: FrontendName | None = None
    sample_rate_hz: int | None = None
    band_hz: tuple[float, float] | None = None
    num_bins: int | None = None
    segment_s: float | None = None
    experts: int | tuple[str, ...] | None = None
    k_max: int | None = None
    window_frames: int | None = None


class Choice(Frozen):
    """One decision: its value as in JSON, who made it, and why in words and numbers."""

    name: str
    value: Any
    reason: str
    source: Source = "rule"

    @classmethod
    def given(cls, name: str, value: Any) -> Choice:
        return cls(name=name, value=value, reason="given", source="user")


class Candidate(Frozen):
    """How one front end did in the race.

    ``accuracy`` is the mean of ``clean_accuracy`` and ``noisy_accuracy`` over held-out clips (label
    ranking average precision if clips have several labels). ``gain`` is the paired difference from
    the front end that defends its place, ``gain_se`` its standard error over groups of clips.
    """

    name: str
    spectro: SpectroConfig
    accuracy: float
    standard_error: float
    clean_accuracy: float
    noisy_accuracy: float
    gain: float
    gain_se: float


class Race(Frozen):
    """What the probe measured; ``candidates[0]`` defends its place.

    Another takes it with a gain of more than ``bar`` standard errors (see ``race.error_bar``).
    ``margin`` and ``margin_se`` are the paired difference between winner and runner-up. Front ends
    that are ``too_dear`` did not race: every clip is heard by the winner.
    """

    method: str
    num_clips: int
    num_groups: int
    folds: Literal["group", "stratified"]
    num_folds: int
    partitions: int
    noisy_copies: int
    noise_snr_db: tuple[float, float]
    bar: float
    candidates: tuple[Candidate, ...]
    winner: str
    runner_up: str
    margin: float
    margin_se: float
    too_dear: tuple[str, ...] = ()


class StackRow(Frozen):
    """The outcome of one candidate for an expert.

    ``alone`` is its held-out log loss in nats by itself, ``gain`` what it took off the loss of
    those taken before it, or would have taken off at the end, ``gain_se`` that gain's standard
    error over sources. ``place`` counts from 1 among those taken.
    """

    name: str
    ms: float
    alone: float
    gain: float
    gain_se: float
    taken: bool
    place: int | None
    weight: float
    reason: str


def number_rows(
    rows: Iterable[StackRow],
    weights: Mapping[str, float],
    lost: str = "beside those taken after it, it weighs nothing",
) -> tuple[StackRow, ...]:
    """The table with the experts of a mixture in the order of its ``weights``, then the others.

    ``lost`` says why one that was taken is none of them.
    """
    table = {row.name: row for row in rows}
    names = [name for name in weights if name in table]
    numbered = [
        table[name].model_copy(
            update={"taken": True, "place": place, "weight": round(weights[name], 4)}
        )
        for place, name in enumerate(names, 1)
    ]
    for row in table.values():
        if row.name not in weights:
            reason = f"{row.reason}; {lost}" if row.taken else row.reason
            update = {"taken": False, "place": None, "weight": 0.0, "reason": reason}
            numbered.append(row.model_copy(update=update))
    return tuple(numbered)


class Policy(Frozen):
    """Every choice for a data set.

    ``mask_reasons`` says why each masked expert is masked, ``race_skipped`` why there was no race,
    ``candidates`` what became of every candidate if experts were selected on held-out answers.
    """

    schema_version: int = SCHEMA_VERSION
    spectro: SpectroConfig
    experts: tuple[str, ...]
    masked_experts: tuple[str, ...] = ()
    mask_reasons: dict[str, str] = Field(default_factory=dict)
    expert_priors: dict[str, float] = Field(default_factory=dict)
    k_max: int
    window_frames: int
    choices: tuple[Choice, ...]
    race: Race | None = None
    race_skipped: str | None = None
    candidates: tuple[StackRow, ...] = ()

    def as_model_config(self, *, task: TaskName, num_classes: int) -> ModelConfig:
        return ModelConfig(
            task=task,
            num_classes=num_classes,
            experts=list_specs(self.experts, self.spectro),
            masked_experts=self.masked_experts,
            expert_priors=self.expert_priors,
            k_max=self.k_max,
            window_frames=self.window_frames,
        )


def list_specs(names: Iterable[str], spectro: SpectroConfig) -> tuple[ExpertSpec, ...]:
    """The experts of those names, each with its band on the stem map of a front end."""
    edges_hz = edges_between(build_frontend(spectro).bin_centers_hz.double().numpy())
    num_rows = spectro.num_bins // DECIMATION
    specs = []
    for name in names:
        first, last = band_rows(name, num_rows)
        low_hz, high_hz = (round(float(edges_hz[row * DECIMATION]), 3) for row in (first, last))
        specs.append(CnnSpec(name=name, band_hz=(low_hz, high_hz)))
    return tuple(specs)
