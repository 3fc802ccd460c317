"""One call of ``fit`` as a value: which recordings, which wishes, how to train, where to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from xmoe.audio.dataset import Dataset
from xmoe.base.config import BackboneSpec, Frozen, TaskName, TrainConfig
from xmoe.base.progress import Progress
from xmoe.policy.policy import PolicyOverrides
from xmoe.profile.assemble import ProfileResult, profile_dataset
from xmoe.training.kernel_features import Runner, run_here
from xmoe.training.session import Engine, train_here


class Profiler(Protocol):
    """Profiles a data set: the plain loop, or a job on Ray."""

    def __call__(self, dataset: Dataset, *, workers: int, progress: Progress) -> ProfileResult:
        """The profile of ``dataset``."""
        ...


class Offered(Frozen):
    """Pretrained networks that were offered to a run."""

    schema_version: Literal[1] = 1
    backbones: tuple[BackboneSpec, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What every stage is asked for.

    ``policy``: ``race`` measures the candidates that the rules leave, ``rule`` does not;
    ``overrides`` replace its choices. ``backbones`` are networks that may be asked.
    ``strict`` makes an unreadable recording an error; ``samples`` are a few test clips in the run.
    ``engine`` runs the training job, ``profiler`` the profile, ``measurer`` the features.
    """

    dataset_dir: str | Path
    out_dir: Path
    metadata_csv: str | Path | None = None
    test_fold: int | None = None
    task: TaskName | None = None
    budget: str | float = "accuracy"
    train: TrainConfig = field(default_factory=TrainConfig)
    policy: Literal["race", "rule"] = "race"
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)
    backbones: tuple[BackboneSpec, ...] = ()
    strict: bool = False
    samples: bool = True
    resume: bool = False
    engine: Engine = train_here
    profiler: Profiler = profile_dataset
    measurer: Runner = run_here
