"""A store of spectrograms -> fitted weights: one loop for a laptop, a GPU and Ray Train workers.

AdamW with a one-cycle rate, and an exponential moving average of the weights, which is what is
evaluated and kept. ``xmoe.training.session`` runs the epochs and decides what is kept. Everything
random follows from the seed and the epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xmoe.base.config import RunConfig
from xmoe.base.device import choose_device
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.base import Frontend
from xmoe.glance.stem import stem_columns
from xmoe.mixture.moe import MoE, TrainingDraws, TrainingOutput, load_weights_into, split_weights
from xmoe.mixture.network import whole_logits
from xmoe.run.folder import TRAINING
from xmoe.training.batches import Share, steps_per_epoch, train_batches
from xmoe.training.losses import compute_losses, draw_step

MIN_STEPS = 1000  # small sets need many epochs for the one-cycle schedule
EVAL_BATCH = 64
MAX_GRAD_NORM = 5.0
WARM_UP = 0.2  # of all steps


@dataclass
class EpochReport:
    """What one epoch did: mean losses, accuracy, gate load, validation; whether it was kept."""

    epoch: int
    epochs: int
    step: int
    seconds: float
    figures: dict[str, float]
    expert_load: dict[str, float] = field(default_factory=dict)
    kept: bool = False

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["figures"]
        return self.figures | values


def choose_epochs(config: RunConfig, num_clips: int) -> int:
    """The epochs asked for, or enough for 1,000 steps."""
    if config.train.epochs is not None:
        return config.train.epochs
    return -(-MIN_STEPS // steps_per_epoch(num_clips, config.train.batch_size))


def one_cycle(step: int, total: int) -> float:
    """Share of the peak learning rate at a step: cosine up over a fifth, cosine down.

    Source: Smith and Topin 2018, arXiv:1708.07120.
    """
    rise = max(1.0, WARM_UP * total)
    if step < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
    return max(1e-4, (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise))) / 2)


def warm_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Moving average of weights whose decay rises to ``decay`` over its first steps.

    Step n keeps at most (1 + n) / (10 + n) of the average, so that a run of a few steps does not
    end on its random first weights.
    """

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, steps)

    return update


class Trainer:
    """Fits one mixture; ``wrap`` is where a distributed wrapper goes."""

    def __init__(
        self,
        config: RunConfig,
        frontend: Frontend,
        train: SpectrogramStore,
        val: SpectrogramStore,
        *,
        share: Share | None = None,
        device: torch.device | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.config = config
        self.frontend = frontend.cpu()
        self.train_store, self.val_store = train, val
        self.share = share or Share()
        self.device = device or choose_device(config.train.device)
        self.epochs = choose_epochs(config, len(train))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            self.model = MoE(config.model, config.spectro).to(self.device)
        self.wrapped = wrap(self.model)
        averaging = warm_average(config.train.ema_decay)
        self.average = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
        )
        size = min(config.train.batch_size, len(train))
        self.steps_per_epoch = steps_per_epoch(len(train), size)
        self.epoch = 0
        self.step = 0
        self.best_loss = float("inf")

    @property
    def averaged(self) -> MoE:
        """The averaged model, which is the one that is evaluated and kept."""
        module = self.average.module
        assert isinstance(module, MoE)
        return module

    def train_epoch(self) -> EpochReport:
        """Run one epoch; raises FloatingPointError on a non-finite loss."""
        began = time.monotonic()
        self.wrapped.train()
        sums: dict[str, float] = {}
        load = torch.zeros(len(self.config.model.experts))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.train.seed * 100_003 + self.epoch)
            batches = train_batches(
                self.train_store, self.frontend, self.config, epoch=self.epoch, share=self.share
            )
            for spec, targets, generator in batches:
                figures, chosen = self._step(spec.to(self.device), targets, generator)
                load += chosen
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
        self.epoch += 1
        steps = self.steps_per_epoch
        names = self.config.model.expert_names
        return EpochReport(
            epoch=self.epoch,
            epochs=self.epochs,
            step=self.step,
            seconds=time.monotonic() - began,
            figures={f"train_{name}": value / steps for name, value in sums.items()},
            expert_load=dict(zip(names, (load / load.sum().clamp_min(1)).tolist(), strict=True)),
        )

    def _step(
        self, spec: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, float], Tensor]:
        config = self.config.model
        targets = targets.to(self.device)
        columns = stem_columns(spec.shape[2])
        draws = draw_step(config, batch=len(spec), columns=columns, generator=generator)
        draws = TrainingDraws(draws.keep, draws.window_noise.to(self.device))
        output = self._forward(spec, draws)
        losses = compute_losses(output, targets, config, generator=generator)
        if not bool(torch.isfinite(losses.total)):
            value = float(losses.total.detach())
            raise FloatingPointError(f"the loss is {value} in epoch {self.epoch + 1}")
        rate = one_cycle(self.step, self.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.config.train.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.model)
        with torch.no_grad():
            right = self.model.task.rightness(losses.logits, targets)
            figures = {name: float(value) for name, value in losses.parts.items()}
            figures |= {
                "loss": float(losses.total.detach()),
                "accuracy": float(right.mean()),
                "mean_k": float(output.count.argmax(1).float().mean()),
            }
            chosen = torch.bincount(output.gate.argmax(1).cpu(), minlength=len(config.experts))
        return figures, chosen.float()

    def _forward(self, spec: Tensor, draws: TrainingDraws) -> TrainingOutput:
        half = self.config.train.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            output: TrainingOutput = self.wrapped(spec, draws)
        if not half:
            return output
        return TrainingOutput(*(logits.float() for logits in vars(output).values()))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Validation loss, its standard error, and accuracy of the averaged mixture.

        Every expert sees the whole map.
        """
        model = self.averaged.eval()
        losses: list[float] = []
        rights = 0.0
        task, classes = model.task, self.config.model.num_classes
        for first in range(0, len(self.val_store), EVAL_BATCH):
            rows = list(range(first, min(first + EVAL_BATCH, len(self.val_store))))
            segments = eval_segments(self.val_store, self.frontend, rows)
            logits = whole_logits(model, segments.spec.to(self.device)).cpu()
            pooled = segments.pool(logits, len(rows))
            targets = task.soft_targets(self.val_store.targets[rows], classes)
            losses += [
                float(task.loss(logits, target))
                for logits, target in zip(pooled, targets, strict=True)
            ]
            rights += float(task.rightness(pooled, targets).sum())
        spread = torch.tensor(losses).std(unbiased=False) / len(losses) ** 0.5
        return {
            "val_loss": sum(losses) / len(losses),
            "val_loss_se": float(spread),
            "val_accuracy": rights / len(losses),
        }

    def state_tensors(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of a checkpoint, one group a file."""
        groups = split_weights(self.averaged)
        training = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            training |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
        training["average.n_averaged"] = self.average.n_averaged
        return groups | {TRAINING: training}

    def state_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("epoch", "epochs", "best_loss", "step")}

    def restore(
        self, groups: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
    ) -> None:
        """Restore a checkpoint, so that the next epoch is as it would have been."""
        load_weights_into(self.averaged, groups)
        training = groups[TRAINING]
        model = {k.removeprefix("model."): v for k, v in training.items() if k.startswith("model.")}
        self.model.load_state_dict(model)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in training.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        packed = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": packed["param_groups"]})
        self.average.n_averaged.copy_(training["average.n_averaged"])
        self.epoch, self.step = int(values["epoch"]), int(values["step"])
        best = values.get("best_loss")
        self.best_loss = float("inf") if best is None else float(best)
