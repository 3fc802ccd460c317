"""What labels mean: each clip has exactly one of them, or any number.

All that differs between the two stands here, once: the rows of targets, the loss, how logits become
probabilities, which labels an answer names and how right it is. The last axis is that of the
classes C throughout. Numbers that people read are numpy in float64, what is trained is torch.
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
    """One label for each clip or several, with all that follows from it.

    ``exclusive``: classes exclude each other, so the probabilities of a clip sum to one.
    """

    name: ClassVar[TaskName]
    exclusive: ClassVar[bool]

    @abstractmethod
    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        """Return 0/1 rows [n, C] of the targets of clips, as a store holds them.

        Raises ValueError where they are not the targets of this task.
        """

    @abstractmethod
    def count_outcomes(self, num_classes: int) -> int:
        """Return how many outcomes each decision chooses among: chance is one over it."""

    @abstractmethod
    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the logarithms of the probabilities of logits [..., C]."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits [..., C]."""

    @abstractmethod
    def pool_probabilities(self, logits: Array) -> Array:
        """Return the probabilities [C] of a recording: those of its segments' mean logits [n, C].

        In numpy: these are few numbers, and torch lets go of the interpreter at every step.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits [..., C] against soft targets [..., C].

        The mean is over all decisions: clips or, for several labels, clips times classes.
        """

    @abstractmethod
    def belief(self, logits: Tensor) -> Tensor:
        """Return how much each class counts, [..., C]: weights that sum to one."""

    @abstractmethod
    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """Return which labels [..., C] an answer of these probabilities names."""

    @abstractmethod
    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return how right answers [B, C] are against soft targets [B, C], in [0, 1], as [B]."""

    @abstractmethod
    def entropy(self, p: Array) -> float:
        """Return the entropy in nats of an answer [C]."""

    def soft_targets(
        self, targets: npt.NDArray[np.generic], num_classes: int, smoothing: float = 0.0
    ) -> Tensor:
        """Return targets [n, C] to train with, of which ``smoothing`` is given to chance."""
        hard = torch.from_numpy(self.rows(targets, num_classes)).float()
        return hard * (1 - smoothing) + smoothing / self.count_outcomes(num_classes)


class SingleLabel(Task):
    """Each clip has exactly one label: a softmax over the classes."""

    name = "single_label"
    exclusive = True

    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        """Return one-hot rows of class ids [n]."""
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise ValueError(
                f"targets must be whole numbers [n], not {targets.dtype} {targets.shape}"
            )
        ids = targets.astype(np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(f"targets must be from 0 to {num_classes - 1}")
        return np.eye(num_classes)[ids]

    def count_outcomes(self, num_classes: int) -> int:
        """Return C: one decision among all classes."""
        return num_classes

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the log-softmax."""
        return F.log_softmax(logits, -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax."""
        return torch.softmax(logits, -1)

    def pool_probabilities(self, logits: Array) -> Array:
        """Return the softmax of the mean."""
        pooled = logits.mean(0)
        p = np.exp(pooled - pooled.max())
        return np.asarray(p / p.sum())

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of the softmax."""
        return -(targets * self.log_probabilities(logits)).sum(-1).mean()

    def belief(self, logits: Tensor) -> Tensor:
        """Return the probabilities."""
        return self.probabilities(logits)

    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """Return the most probable class, the first of several."""
        return np.asarray(np.arange(p.shape[-1]) == p.argmax(-1)[..., None])

    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return 1 where the answer is the target's heaviest class, else 0."""
        return (logits.argmax(1) == targets.argmax(1)).float()

    def entropy(self, p: Array) -> float:
        """Return the entropy of the distribution."""
        q = np.clip(p, SMALLEST, 1.0)
        return float(-(q * np.log(q)).sum())


class MultiLabel(Task):
    """A clip has any number of labels: a sigmoid for each class."""

    name = "multi_label"
    exclusive = False

    def rows(self, targets: npt.NDArray[np.generic], num_classes: int) -> Array:
        """Return the rows [n, C] as they are."""
        shape = (len(targets), num_classes)
        if targets.shape != shape or not np.isin(targets, (0, 1)).all():
            raise ValueError(f"targets must be 0 or 1 of shape {shape}, not {targets.shape}")
        return targets.astype(np.float64)

    def count_outcomes(self, num_classes: int) -> int:
        """Return 2: each class is there or not."""
        return 2

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the log-sigmoids."""
        return F.logsigmoid(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoids."""
        return torch.sigmoid(logits)

    def pool_probabilities(self, logits: Array) -> Array:
        """Return the sigmoids of the mean."""
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits.mean(0))))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of the sigmoids."""
        return F.binary_cross_entropy_with_logits(logits, targets)

    def belief(self, logits: Tensor) -> Tensor:
        """Return each probability's share of their sum; less than one in all where that is tiny."""
        p = self.probabilities(logits)
        return p / p.sum(-1, keepdim=True).clamp_min(1e-6)

    def said(self, p: Array) -> npt.NDArray[np.bool_]:
        """Return the classes of at least one half: none, some or all."""
        return p >= 0.5

    def rightness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the overlap (Jaccard index) of the labels over one half; 1 where there are none.

        "None" means that none is said and none is true.
        """
        said, true = logits > 0, targets > 0.5
        union = (said | true).sum(1).clamp_min(1)
        overlap = (said & true).sum(1) / union
        return torch.where((said | true).any(1), overlap, torch.ones_like(union))

    def entropy(self, p: Array) -> float:
        """Return the mean entropy of the decisions on each label."""
        q, r = np.clip(p, SMALLEST, 1.0), np.clip(1.0 - p, SMALLEST, 1.0)
        return float(-(q * np.log(q) + r * np.log(r)).mean())


TASKS: dict[str, Task] = {task.name: task for task in (SingleLabel(), MultiLabel())}


def task_of(name: str) -> Task:
    """Return the task that a config names; ValueError where there is none of that name."""
    if name not in TASKS:
        raise ValueError(f"task {name!r} is neither {' nor '.join(TASKS)}")
    return TASKS[name]
