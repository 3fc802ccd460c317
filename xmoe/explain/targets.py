"""Which number is explained: a class of the answer, the choice of experts, or the choice of K.

A target scores a trace, one number per clip with a gradient, and names itself. Scores are relative
to their rivals: what raises all classes, or all experts, alike explains no choice among them.
``watch`` is the same number of the classifier as it serves (the plan made anew), in the unit that
people read: a probability, a share of the gate, a margin of promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.base.config import RoutingConfig
from xmoe.explain.subject import Subject
from xmoe.explain.trace import Trace
from xmoe.glance.router import count_costs
from xmoe.mixture.plan import Plan


class Target(Protocol):
    """A number of the model, one per clip, with a gradient."""

    def score(self, trace: Trace) -> Tensor:
        """The number for each clip, [B]."""
        ...

    def watch(self, subject: Subject, specs: Tensor, sound: Sound | None = None) -> Tensor:
        """The number as the classifier serves it, [B], for spectrograms [B, F, T].

        ``sound`` is that of the same clips, for experts on sound.
        """
        ...

    def describe(self, classes: Sequence[str]) -> str:
        """What is explained, in words."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """The mixture's logit of a class over the mean of all; one class, or one for each clip."""

    class_id: int | tuple[int, ...]

    def score(self, trace: Trace) -> Tensor:
        """Centred logit of the class of each clip, [B]."""
        return centred(trace.logits, self.class_id)

    def watch(self, subject: Subject, specs: Tensor, sound: Sound | None = None) -> Tensor:
        """Calibrated probability of the class, [B]."""
        return pick(subject.probabilities(specs, sound), self.class_id)

    def describe(self, classes: Sequence[str]) -> str:
        ids = (self.class_id,) if isinstance(self.class_id, int) else self.class_id
        return f"the answer {', '.join(dict.fromkeys(classes[i] for i in ids))!r}"


@dataclass(frozen=True)
class ExpertsTarget:
    """The gate's log-odds of some experts, together, against all others that are not masked."""

    expert_ids: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        names = [name.replace("_", " ") for name in self.names]
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

    def score(self, trace: Trace) -> Tensor:
        """Log-odds of each clip, [B]; ValueError where the gate has no choice."""
        gate = trace.gate_logits
        named = torch.zeros(gate.shape[1], dtype=torch.bool, device=gate.device)
        named[list(self.expert_ids)] = True
        allowed = torch.isfinite(gate[0])
        if not bool(allowed[named].all()):
            raise ValueError(f"{self.words} masked: the gate has no choice")
        if not bool((allowed & ~named).any()):
            raise ValueError(f"{self.words} are all there is: the gate has no choice")
        return gate[:, named].logsumexp(1) - gate[:, allowed & ~named].logsumexp(1)

    def watch(self, subject: Subject, specs: Tensor, sound: Sound | None = None) -> Tensor:
        """Share of the gate that the experts hold, [B] in 0..1."""
        return subject.routings(specs).gate[:, list(self.expert_ids)].sum(1)

    def describe(self, classes: Sequence[str]) -> str:
        return f"the choice of {self.words}"


@dataclass(frozen=True)
class KTarget:
    """How far the promise of K experts is ahead of that of the next best K, each less its price.

    The router takes K while this margin is above zero. The price is per expert, or where ``costs``
    of 0, 1, ... experts are given, per unit of cost.
    """

    k: int
    rival: int
    k_price: float = 0.0
    costs: tuple[float, ...] = ()

    def score(self, trace: Trace) -> Tensor:
        return self._margin(trace.promises)

    def watch(self, subject: Subject, specs: Tensor, sound: Sound | None = None) -> Tensor:
        """The margin, [B] in -1..1 or so; below zero the decision would change."""
        return self._margin(subject.routings(specs).promises)

    def _margin(self, promises: Tensor) -> Tensor:
        costs = self.costs or range(promises.shape[1])
        price = self.k_price * (costs[self.k] - costs[self.rival])
        return promises[:, self.k] - promises[:, self.rival] - price

    def describe(self, classes: Sequence[str]) -> str:
        return f"K = {self.k} rather than {self.rival}"


def choose_experts_target(plan: Plan) -> ExpertsTarget:
    """The target of a plan of one clip: the experts asked against those that were not.

    Where that is no choice (K = 0, or all were asked), it is the gate's favourite alone.
    """
    gate = plan.gate[0]
    asked = torch.nonzero(plan.weights[0] > 0).squeeze(1).tolist()
    asked.sort(key=lambda index: -float(gate[index]))
    if not asked or len(asked) == int((gate > 0).sum()):
        asked = [int(gate.argmax())]
    return ExpertsTarget(tuple(asked), tuple(plan.expert_names[index] for index in asked))


def choose_k_target(plan: Plan, routing: RoutingConfig, most: int) -> KTarget | None:
    """The target of a plan of one clip: its K against the next best of at most ``most``.

    None where nothing is promised for that K, or for no other, or where experts are asked in their
    order whatever they promise. A K that was fixed rather than chosen is still compared with the
    best other K.
    """
    promises, k = plan.promises[0, : most + 1], int(plan.k[0])
    if len(promises) < 2 or k >= len(promises) or routing.asks_all:
        return None
    costs = count_costs(len(promises), routing.costs_ms, promises.device)
    worth = promises - routing.k_price * costs
    worth[k] = -torch.inf
    known = tuple(costs.tolist()) if routing.costs_ms else ()
    return KTarget(k, int(worth.argmax()), routing.k_price, known)


def pick(values: Tensor, class_id: int | tuple[int, ...]) -> Tensor:
    """Column [B] of values [B, C]; of several ids, one for each clip in turn."""
    ids = torch.as_tensor(class_id, device=values.device).reshape(-1)
    rows = ids.repeat(len(values) // len(ids))
    return values.gather(1, rows.unsqueeze(1)).squeeze(1)


def centred(logits: Tensor, class_id: int | tuple[int, ...]) -> Tensor:
    """Logits [B] of a class, or of one class for each clip, over the mean of all classes."""
    return pick(logits, class_id) - logits.mean(1)
