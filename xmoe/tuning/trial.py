"""One candidate -> trained on the training clips, measured on the validation clips. Without Ray.

Trials share a cache of spectrograms per front end, so that only the first trial of a front end
decodes recordings. The test split is never read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from xmoe.audio.dataset import Dataset
from xmoe.base.config import RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.features.store import SpectrogramStore
from xmoe.mixture.moe import MoE
from xmoe.pipeline.decide import make_config
from xmoe.pipeline.evaluation import evaluate_store, mean_macs
from xmoe.pipeline.fit import build_stores
from xmoe.pipeline.outcome import calibrate_run
from xmoe.policy.policy import Policy, PolicyOverrides, choose_policy
from xmoe.predict.predictor import Predictor
from xmoe.profile.profile import Profile
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.loop import EpochReport, Trainer
from xmoe.training.session import TrainingJob, make_trainer, run_epochs
from xmoe.tuning.pareto import TuneResult, standard_error
from xmoe.tuning.space import SearchSpace, TuneCandidate

TIMED = 15
ALWAYS_ASK = RoutingConfig(k_price=-1.0)


@dataclass(frozen=True)
class Figures:
    """A running trial: validation accuracy after an epoch, and the highest cost of an answer."""

    epoch: int
    accuracy: float
    mmac: float
    latency_ms: float


OnFigures = Callable[[Figures], None]


@dataclass(frozen=True)
class TrialSetting:
    """What all trials share: the clips, their profile, where to work, and how to train."""

    dataset: Dataset
    profile: Profile
    work_dir: Path
    train: TrainConfig
    budget: str | float = "accuracy"


def run_trial(
    setting: TrialSetting,
    candidate: TuneCandidate,
    *,
    number: int,
    on_epoch: OnFigures = lambda figures: None,
) -> TuneResult:
    """Train a candidate and measure it on validation clips.

    ``on_epoch`` is called after every validation and may raise to stop the trial. Raises
    ConfigError for a candidate that does not fit.
    """
    began = time.perf_counter()
    config = configure(setting, candidate)
    where = store_folder(setting, config.spectro)
    stores = build_stores(where, setting.dataset, config.spectro, ("train", "val"))
    folder = RunFolder(setting.work_dir / f"trial-{number:04d}")
    shutil.rmtree(folder.path, ignore_errors=True)
    folder.write_record(RunFile.CONFIG, config)
    job = TrainingJob(folder.path, config, where)
    try:
        trainer = make_trainer(job)
        mmac, latency_ms = bound_cost(config)

        def tell(report: EpochReport) -> None:
            accuracy = float(report.figures["val_accuracy"])
            on_epoch(Figures(report.epoch, accuracy, mmac, latency_ms))

        run_epochs(trainer, job, on_epoch=tell)
        return measure(folder, stores["val"], setting, candidate, trainer, (number, began))
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def begin_policy(setting: TrialSetting, space: SearchSpace) -> Policy:
    """The choice of the policy's rules, with a front end of the space."""
    policy = choose_policy(setting.profile, method="rule", seed=setting.train.seed)
    if policy.spectro.frontend in space.frontends:
        return policy
    wish = PolicyOverrides(frontend=space.frontends[0])
    return choose_policy(setting.profile, method="rule", overrides=wish, seed=setting.train.seed)


def configure(setting: TrialSetting, candidate: TuneCandidate) -> RunConfig:
    """The settings of a run for a candidate: the policy's rules with it as overrides."""
    policy = choose_policy(
        setting.profile, method="rule", overrides=candidate.overrides(), seed=setting.train.seed
    )
    train = setting.train.model_copy(update={"learning_rate": candidate.learning_rate})
    return make_config(policy, setting.dataset, train)


def store_folder(setting: TrialSetting, spectro: SpectroConfig) -> Path:
    """The folder in which trials of a front end share their spectrograms."""
    text = json.dumps(spectro.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return setting.work_dir / "spectrograms" / digest


def measure(
    folder: RunFolder,
    store: SpectrogramStore,
    setting: TrialSetting,
    candidate: TuneCandidate,
    trainer: Trainer,
    started: tuple[int, float],
) -> TuneResult:
    """What a trained candidate scores on validation clips, and what it costs."""
    number, began = started
    budget = fit_budget(setting.budget, trainer.config.model.k_max)
    calibrate_run(folder, store, budget)
    predictor = Predictor.load(folder.path)
    evaluation = evaluate_store(predictor, store, fixed_k=False)
    accuracy = float(evaluation.metrics["accuracy"])
    return TuneResult(
        number=number,
        candidate=candidate,
        accuracy=round(accuracy, 6),
        standard_error=round(standard_error(accuracy, len(store)), 6),
        mean_k=round(float(evaluation.usage["mean_k"]), 4),
        mmac=round(mean_macs(predictor, evaluation.usage)["mean_answer"], 4),
        latency_ms=round(time_segment(predictor), 3),
        epochs=trainer.epoch,
        seconds=round(time.perf_counter() - began, 2),
    )


def fit_budget(budget: str | float, k_max: int) -> str | float:
    """A budget that a mixture can spend: a mean K of at most ``k_max``."""
    return budget if isinstance(budget, str) else min(budget, float(k_max))


def bound_cost(config: RunConfig) -> tuple[float, float]:
    """MMAC and milliseconds of an answer if every segment asks the largest K."""
    model = MoE(config.model, config.spectro)
    predictor = Predictor(config.model_copy(update={"routing": ALWAYS_ASK}), model)
    free = [name for name in config.model.expert_names if name not in config.model.masked_experts]
    rate = config.model.k_max / len(free)
    usage = {"selection_rate": {name: rate * (name in free) for name in config.model.expert_names}}
    return round(mean_macs(predictor, usage)["mean_answer"], 4), round(time_segment(predictor), 3)


def time_segment(predictor: Predictor) -> float:
    """Median milliseconds of one segment from samples to answer, on this thread."""
    spectro = predictor.config.spectro
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(spectro.segment_samples, generator=generator).mul_(0.1).numpy()
    predictor.predict(samples, spectro.sample_rate_hz)
    seconds = sorted(
        predictor.predict(samples, spectro.sample_rate_hz).seconds for _ in range(TIMED)
    )
    return 1000.0 * seconds[TIMED // 2]
