"""One call of ``fit`` as a value: which recordings, which wishes, how to train, where to write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from xmoe.audio.dataset import Dataset
from xmoe.backbones import read_card
from xmoe.base.config import BackboneSpec, Frozen, TaskName, TrainConfig
from xmoe.base.errors import ConfigError
from xmoe.base.progress import Progress
from xmoe.experts.backbone import trust_more
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
    ``fit_by_policy`` lets the policy choose ``train.fit``.
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
    fit_by_policy: bool = False
    policy: Literal["race", "rule"] = "race"
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)
    backbones: tuple[BackboneSpec, ...] = ()
    strict: bool = False
    samples: bool = True
    resume: bool = False
    engine: Engine = train_here
    profiler: Profiler = profile_dataset
    measurer: Runner = run_here


def read_cards(
    paths: Sequence[str | Path], trusted: Sequence[str] = ()
) -> tuple[BackboneSpec, ...]:
    """The networks of cards; ConfigError for a card that is bad or repeats a name.

    Files or cards ``trusted`` by name may run code. A licence that forbids commercial use is
    printed.
    """
    trust_more(trusted)
    specs = []
    for path in map(Path, paths):
        card = read_card(path)
        name = card.name.replace(".", "-")  # it names a part of a module
        specs.append(BackboneSpec(name=name, card=card, folder=str(path.parent.absolute())))
        if card.non_commercial:
            print(f"{card.name}: {card.terms}", file=sys.stderr)  # noqa: T201
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        what = f"two networks have one name: {', '.join(names)}"
        raise ConfigError(what, mend="give each card a name of its own")
    return tuple(specs)
