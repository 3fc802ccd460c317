"""A plan in its learned order -> what each expert contributes to this clip's answer.

A router that promises makes no choice of experts that could be explained: they stand in a fixed
order, with learned weights. What can be asked is what each of them says alone, and what the answer
would be without it. Both are computed from the replies of the answer itself. Once the first experts
have answered the promises are made again; ``look_again`` computes those of the second round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.experts.protocol import ExpertReply
from xmoe.explain.subject import Subject
from xmoe.mixture.plan import Plan
from xmoe.mixture.promise_router import STEM_NAME, PromiseRouter
from xmoe.mixture.rounds import renew_promises

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Asked:
    """One voice of an answer, an expert or the stem.

    ``counts`` is its share of the answer, ``cost_ms`` its cost, 0 where unknown; ``alone`` [C] are
    its own probabilities, ``without`` [C] those of the answer without it, None where there is no
    other voice.
    """

    name: str
    counts: float
    cost_ms: float
    alone: Array
    without: Array | None


@torch.no_grad()
def ask_each(subject: Subject, plan: Plan, replies: Mapping[str, ExpertReply]) -> tuple[Asked, ...]:
    """The voices of a plan of one clip in the order in which they were asked, stem first."""
    task, routing = subject.model.task, subject.routing
    share = float(plan.stem_share(plan.k))
    mute = replace(plan, stem_shares=torch.zeros_like(plan.stem_shares))
    voices = [
        Asked(
            STEM_NAME,
            share,
            routing.glance_ms,
            _row(subject.read(plan, {})),
            _row(subject.read(mute, replies)) if replies else None,
        )
    ]
    costs = routing.costs_ms or (0.0,) * len(plan.expert_names)
    for index, name in enumerate(plan.expert_names):
        if name in replies:
            others = {other: reply for other, reply in replies.items() if other != name}
            voices.append(
                Asked(
                    name,
                    (1.0 - share) * float(plan.weights[0, index]),
                    costs[index],
                    _row(task.probabilities(replies[name].logits)),
                    _row(subject.read(plan, others)),
                )
            )
    return tuple(voices)


@torch.no_grad()
def look_again(
    router: PromiseRouter, plan: Plan, replies: Mapping[str, ExpertReply]
) -> Tensor | None:
    """Promises [K_max + 1] of a plan of one clip once its experts have answered.

    Zero below their number; None where none was asked, or all, or one of them is missing.
    """
    depth = int(plan.k[0])
    asked = {
        name: replies[name]
        for name, weight in zip(plan.expert_names, plan.weights[0].tolist(), strict=True)
        if weight > 0 and name in replies
    }
    if not 0 < depth < plan.promises.shape[1] - 1 or len(asked) < depth:
        return None
    return renew_promises(router, plan, asked)[0].clamp_min(0.0)


def _row(probabilities: Tensor) -> Array:
    return probabilities[0].double().cpu().numpy()
