"""What labels mean: each clip has exactly one of them, or any number.

Everything that differs between the two is here: the rows of targets, the loss, how logits become
probabilities, which labels an answer names and how right it is. The last axis is always that of the
classes C. Numbers for people are numpy in float64, what is trained is torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.base.config import TaskName

Array = npt.NDArray[np.float64]
SMALLEST = 1e-12


class Task(ABC):
    """One label for each clip or several, and everything that follows from it.

    ``exclusive``: classes exclude each other, so the probabilities of a clip sum to one.
    """

    name: ClassVar[TaskName]
    exclusive: ClassVar[bool]

    @abstractmethod
    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        """0/1 rows [n, C] of the targets of clips, as a store holds them.

        Raises ValueError if they are not targets of this task.
        """

    @abstractmethod
    def count_outcomes(self, num_classes: int) -> int:
        """Number of outcomes of each decision: chance is one over it."""

    @abstractmethod
    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Logarithms of the probabilities of logits [..., C]."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of logits [..., C]."""

    @abstractmethod
    def pool_probabilities(self, logits: Array) -> Array:
        """Probabilities [C] of a recording: those of its segments' mean logits [n, C].

        In numpy: these are few numbers, and torch releases the interpreter at every step.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of logits [..., C] against soft targets [..., C].

        The mean is over all decisions: clips or, for several labels, clips times classes.
        """

    @abstractmethod
    def belief(self, logits: Tensor) -> Tensor:
        """How much each class counts, [..., C]: weights that sum to one."""

    @abstractmethod
    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """Which labels [..., C] an answer of these probabilities names."""

    @abstractmethod
    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How right answers [B, C] are against soft targets [B, C], in [0, 1], as [B]."""

    @abstractmethod
    def entropy(self, p: Array) -> float:
        """Entropy in nats of an answer [C]."""

    def soft_targets(
        self, targets: npt.NDArray[np.generic], num_classes: int, smoothing: float = 0.0
    ) -> Tensor:
        """Targets [n, C] to train with, of which ``smoothing`` is given to chance."""
        hard = torch.from_numpy(self.rows(targets, num_classes)).float()
        return hard * (1 - smoothing) + smoothing / self.count_outcomes(num_classes)


class SingleLabel(Task):
    """Each clip has exactly one label: a softmax over the classes."""

    name = "single_label"
    exclusive = True

    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise ValueError(
                f"targets must be whole numbers [n], not {targets.dtype} {targets.shape}"
            )
        ids = targets.astype(np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(f"targets must be from 0 to {num_classes - 1}")
        return np.eye(num_classes)[ids]

    def count_outcomes(self, num_classes: int) -> int:
        return num_classes

    def log_probabilities(self, logits: Tensor) -> Tensor:
        return F.log_softmax(logits, -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, -1)

    def pool_probabilities(self, logits: Array) -> Array:
        pooled = logits.mean(0)
        p = np.exp(pooled - pooled.max())
        return np.asarray(p / p.sum())

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -(targets * self.log_probabilities(logits)).sum(-1).mean()

    def belief(self, logits: Tensor) -> Tensor:
        return self.probabilities(logits)

    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """The most probable class, the first of several."""
        return np.asarray(np.arange(p.shape[-1]) == p.argmax(-1)[..., None])

    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """1 if the answer is the target's heaviest class, else 0."""
        return (logits.argmax(1) == targets.argmax(1)).float()

    def entropy(self, p: Array) -> float:
        q = np.clip(p, SMALLEST, 1.0)
        return float(-(q * np.log(q)).sum())


class MultiLabel(Task):
    """A clip has any number of labels: a sigmoid for each class."""

    name = "multi_label"
    exclusive = False

    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        shape = (len(targets), num_classes)
        if targets.shape != shape or not np.isin(targets, (0, 1)).all():
            raise ValueError(f"targets must be 0 or 1 of shape {shape}, not {targets.shape}")
        return targets.astype(np.float64)

    def count_outcomes(self, num_classes: int) -> int:
        """2: each class is there or not."""
        return 2

    def log_probabilities(self, logits: Tensor) -> Tensor:
        return F.logsigmoid(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def pool_probabilities(self, logits: Array) -> Array:
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits.mean(0))))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets)

    def belief(self, logits: Tensor) -> Tensor:
        """Each probability's share of their sum; less than one in total if that is tiny."""
        p = self.probabilities(logits)
        return p / p.sum(-1, keepdim=True).clamp_min(1e-6)

    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """The classes of at least one half: none, some or all."""
        return p >= 0.5

    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Jaccard index of the labels over one half; 1 if none is named and none is true."""
        said, true = logits > 0, targets > 0.5
        union = (said | true).sum(1).clamp_min(1)
        overlap = (said & true).sum(1) / union
        return torch.where((said | true).any(1), overlap, torch.ones_like(union))

    def entropy(self, p: Array) -> float:
        """Mean entropy of the decisions on each label."""
        q, r = np.clip(p, SMALLEST, 1.0), np.clip(1.0 - p, SMALLEST, 1.0)
        return float(-(q * np.log(q) + r * np.log(r)).mean())


TASKS: dict[str, Task] = {task.name: task for task in (SingleLabel(), MultiLabel())}


def task_of(name: str) -> Task:
    """The task that a config names; ValueError for an unknown name."""
    if name not in TASKS:
        raise ValueError(f"task {name!r} is neither {' nor '.join(TASKS)}")
    return TASKS[name]
