"""Evidence on a clip -> how many experts it is worth asking, at a price per millisecond.

For every number of experts k there is a promise: the probability that the answer with the first k
of them is right. K is where promise less price times cost is largest. The first round reads what
the glance saw; once the first experts have answered, the promises are made again with their answer
in hand, and only then is it decided whether dearer ones are worth it.
n clips, G numbers of evidence.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from xmoe.base.config import Frozen
from xmoe.base.task import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOP = 3  # probabilities of a belief that evidence holds
ANSWER_NUMBERS = TOP + 5
# Evidence further than this from its mean, in deviations, says no more.
REACH = 5.0
_SMALLEST = 1e-9


class Promise(Frozen):
    """Promises of the answers with ``depth``, depth + 1, ... experts once ``depth`` have answered.

    Evidence [n, G] less ``mean`` over ``scale``, times ``weights`` [K + 1 - depth][G], plus
    ``bias``, are log-odds of being right.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def promise(self, evidence: Floats) -> Floats:
        """Probabilities [n, K + 1 - depth] of being right."""
        seen = np.clip((evidence - np.array(self.mean)) / np.array(self.scale), -REACH, REACH)
        return np.asarray(expit(seen @ np.array(self.weights).T + np.array(self.bias)))


class Promises(Frozen):
    """Experts in the order in which they are asked, their costs, and the promises by depth.

    ``first_most`` is how many the first round may ask; the rest wait for its answer.
    """

    order: tuple[str, ...]
    costs_ms: tuple[float, ...]
    depths: tuple[Promise, ...]
    first_most: int

    @property
    def costs(self) -> Floats:
        """Milliseconds [K + 1] of asking 0, 1, ... experts."""
        return np.concatenate([[0.0], np.cumsum(self.costs_ms)])

    def choose(self, depth: int, evidence: Floats, *, price: float) -> Ints:
        """How many experts each clip [n] is worth in all, once ``depth`` have answered.

        ``price`` is the gain in probability of being right that a millisecond must promise.
        """
        promised = self.depths[depth].promise(evidence)
        worth = promised - price * self.costs[depth:]
        if depth == 0:
            worth = worth[:, : self.first_most + 1]
        return np.asarray(depth + worth.argmax(axis=1))


def describe_answer(experts: Tensor, mixed: Tensor, task: Task) -> Tensor:
    """Evidence [n, 8] in a mixed answer [n, C] and the experts' own answers [E, n, C] (logits).

    The three highest probabilities, margin and entropy of the mixed answer; the share of experts
    that agree on its class, the mean probability that they give it, and its spread.
    """
    belief = task.belief(mixed)
    own, first = task.belief(experts), belief.argmax(1)
    given = own.gather(2, first.expand(len(own), -1).unsqueeze(2)).squeeze(2)
    agree = (own.argmax(2) == first).to(belief.dtype).mean(0)
    return describe_belief(belief, agree, given.mean(0), given.std(0, correction=0))


def describe_belief(belief: Tensor, agree: Tensor, given: Tensor, spread: Tensor) -> Tensor:
    """Evidence [n, 8] in a belief [n, C] of which it is known how far experts agree [n]."""
    classes = belief.shape[1]
    ranked = belief.topk(min(TOP, classes), 1).values
    if classes < TOP:
        ranked = functional.pad(ranked, (0, TOP - classes))
    entropy = -(belief * (belief + _SMALLEST).log()).sum(1) / math.log(classes)
    odds = torch.logit(ranked, eps=1e-4)
    parts = [ranked[:, 0] - ranked[:, 1], entropy, agree, given, spread]
    return torch.cat([odds, torch.stack(parts, 1)], 1)
