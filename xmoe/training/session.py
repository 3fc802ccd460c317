"""A training job -> epochs, checkpoints and a history that any interruption leaves whole.

A job is a value: paths and settings, so that the same job runs in this process or on Ray Train
workers. Checkpoints are written at the end of epochs, about thirty times in a run and always after
the last epoch, and once before the first step, so a run can be loaded from its first second.

``best`` is the latest checkpoint whose validation loss is not clearly worse (one standard error)
than the lowest seen: validation sets are small, and the end of a one-cycle schedule with averaged
weights is better than their noise can tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xmoe.base.config import RunConfig
from xmoe.base.errors import ConfigError, XmoeError
from xmoe.base.files import write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.features.store import open_store
from xmoe.frontend.registry import build_frontend
from xmoe.run.folder import TRAINING, RunFile, RunFolder, Which, answering_parts
from xmoe.training.batches import Share
from xmoe.training.loop import EpochReport, Trainer

NUM_CHECKPOINTS = 30  # of a run: often enough to resume, rare enough to cost little


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained: the run folder, its settings, and the folder of its spectrograms."""

    run: Path
    config: RunConfig
    stores: Path
    resume: bool = False


Wrap = Callable[[nn.Module], nn.Module]
OnEpoch = Callable[[EpochReport], None]
Engine = Callable[[TrainingJob, Progress], None]


def train_here(job: TrainingJob, progress: Progress = silent) -> None:
    trainer = make_trainer(job)
    run_epochs(trainer, job, progress=progress)


def make_trainer(
    job: TrainingJob,
    *,
    share: Share | None = None,
    device: torch.device | None = None,
    wrap: Wrap | None = None,
) -> Trainer:
    """Open the stores of a job and build its trainer, restored where the job resumes."""
    trainer = Trainer(
        job.config,
        build_frontend(job.config.spectro),
        open_store(job.stores / "train"),
        open_store(job.stores / "val"),
        share=share,
        device=device,
        wrap=wrap or (lambda module: module),
    )
    folder = RunFolder(job.run)
    if job.resume and folder.exists("last"):
        restore(trainer, folder)
    return trainer


def restore(trainer: Trainer, folder: RunFolder) -> None:
    """Put the last checkpoint of a run into a trainer; ConfigError where the settings differ."""
    values = folder.load_state("last")
    if values["epochs"] != trainer.epochs:
        what = f"the run was begun with {values['epochs']} epochs, not {trainer.epochs}"
        mend = "resume with the same settings, or train into another folder"
        raise ConfigError(what, where=str(folder.path), mend=mend)
    parts = (*answering_parts(trainer.config.model.expert_names), TRAINING)
    trainer.restore({part: folder.load_tensors(part, "last") for part in parts}, values)


def run_epochs(
    trainer: Trainer,
    job: TrainingJob,
    *,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
    writes: bool = True,
) -> None:
    """Run the epochs that are left; only one worker of several ``writes``."""
    recorder = _Recorder(RunFolder(job.run), trainer) if writes else None
    interval = max(1, trainer.epochs // NUM_CHECKPOINTS)
    try:
        if recorder is not None:
            recorder.begin()
        while trainer.epoch < trainer.epochs:
            report = trainer.train_epoch()
            due = report.epoch % interval == 0 or report.epoch == trainer.epochs
            if recorder is not None:
                recorder.record(report, checkpoint=due)
            if due and on_epoch is not None:
                on_epoch(report)
            progress("train", report.epoch, trainer.epochs, describe_row(report.as_dict()))
    except FloatingPointError as error:
        mend = "the last checkpoint is sound; look for broken recordings, or train with --seed"
        raise XmoeError(str(error), where=str(job.run), mend=mend) from error
    finally:
        if recorder is not None:
            recorder.close()


def describe_row(row: Mapping[str, Any]) -> str:
    words = [f"loss {row['train_loss']:.3f}", f"accuracy {row['train_accuracy']:.1%}"]
    if "val_accuracy" in row:
        words.append(f"validation {row['val_accuracy']:.1%}")
    words.append(f"mean K {row['train_mean_k']:.2f}")
    name, load = max(row["expert_load"].items(), key=lambda item: float(item[1]))
    return ", ".join([*words, f"{name} leads {load:.0%}"])


class _Recorder:
    """Writes checkpoints, ``history.jsonl`` and TensorBoard events of one run."""

    def __init__(self, folder: RunFolder, trainer: Trainer) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.trainer = folder, trainer
        self.rows: list[dict[str, Any]] = []
        self.board = SummaryWriter(
            str(folder.file(RunFile.TENSORBOARD)), purge_step=trainer.epoch + 1
        )

    def begin(self) -> None:
        """Read the history up to the epoch that training resumes from."""
        if self.trainer.epoch:
            rows = read_history(self.folder)
            self.rows = [row for row in rows if row["epoch"] <= self.trainer.epoch]
        if not self.folder.exists("last"):
            self._save(("best", "last"))
        self._write_history()

    def record(self, report: EpochReport, *, checkpoint: bool) -> None:
        """Write an epoch down; its ``checkpoint`` is ``best`` unless it is clearly worse.

        History is written first and ``last`` last: a process that dies between two writes resumes
        from the checkpoint before, and repeats all of them.
        """
        if checkpoint:
            report.figures |= self.trainer.validate()
            loss, error = report.figures["val_loss"], report.figures["val_loss_se"]
            report.kept = loss <= self.trainer.best_loss + error
            self.trainer.best_loss = min(self.trainer.best_loss, loss)
        self._note(report)
        if checkpoint:
            self._save(("best", "last") if report.kept else ("last",))

    def _note(self, report: EpochReport) -> None:
        self.rows.append(report.as_dict())
        self._write_history()
        for name, value in report.figures.items():
            self.board.add_scalar(name.replace("_", "/", 1), value, report.epoch)
        for name, value in report.expert_load.items():
            self.board.add_scalar(f"expert_load/{name}", value, report.epoch)

    def close(self) -> None:
        self.board.close()

    def _save(self, which: tuple[Which, ...]) -> None:
        trainer = self.trainer
        self.folder.save_checkpoint(
            f"epoch-{trainer.epoch:05d}",
            trainer.state_tensors(),
            trainer.state_values(),
            which=which,
        )

    def _write_history(self) -> None:
        lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.rows)
        write_bytes(self.folder.file(RunFile.HISTORY), lines.encode())


def read_history(folder: RunFolder) -> list[dict[str, Any]]:
    """Rows of a run's history, one per epoch; none where it has none."""
    path = folder.file(RunFile.HISTORY)
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
