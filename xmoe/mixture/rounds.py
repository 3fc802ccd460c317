"""A plan + callers -> an answer, in one round or two.

Once the experts of a plan have answered, a router that promises looks again: where their answer
does not promise enough for its price, the next experts are asked, once. What was heard is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xmoe.base.config import RoutingConfig
from xmoe.experts.protocol import ExpertReply, Inputs
from xmoe.glance.router import choose_counts
from xmoe.mixture.calls import AskExpert, call_experts, merge_replies
from xmoe.mixture.combine import Combined, combine, stack_replies
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan, drop_rows
from xmoe.mixture.promise_router import PromiseRouter, renew_evidence


def answer_plan(
    model: MoE,
    plan: Plan,
    inputs: Inputs,
    routing: RoutingConfig,
    *,
    callers: Mapping[str, AskExpert] | None = None,
    k_max: int | None = None,
) -> tuple[Plan, Combined]:
    """Return the plan as it was in the end, and its answer, by the experts of this process.

    ``callers`` are other experts to ask; ``k_max`` bounds how many are asked in all.
    """
    callers = model.callers() if callers is None else callers
    replies = call_experts(callers, model.requests(plan, inputs))
    further = ask_further(model, plan, replies, routing, k_max=k_max)
    if further is not None:
        others = drop_rows(further, plan.weights > 0)
        replies = merge_replies(replies, call_experts(callers, model.requests(others, inputs)))
        plan = further
    return plan, combine(plan, replies)


@torch.no_grad()
def ask_further(
    model: MoE,
    plan: Plan,
    replies: Mapping[str, ExpertReply],
    routing: RoutingConfig,
    *,
    k_max: int | None = None,
) -> Plan | None:
    """Return the plan with the experts that the answer so far makes worth asking.

    None where no clip asks more. A clip for which an expert is missing goes on with those it has.
    """
    if not isinstance(model.router, PromiseRouter):
        return None
    wanted = count_further(model.router, plan, replies, routing, k_max=k_max)
    if not bool((wanted > plan.k).any()):
        return None
    return plan.with_counts(wanted)


def count_further(
    router: PromiseRouter,
    plan: Plan,
    replies: Mapping[str, ExpertReply],
    routing: RoutingConfig,
    *,
    k_max: int | None = None,
) -> Tensor:
    """Return how many experts [B] are worth asking in all, now that the first have answered."""
    renewed = renew_promises(router, plan, replies)
    chosen = choose_counts(renewed, routing.k_price, k_max, costs_ms=routing.costs_ms)
    return torch.maximum(chosen, plan.k)


def renew_promises(router: PromiseRouter, plan: Plan, replies: Mapping[str, ExpertReply]) -> Tensor:
    """Return the promises [B, K_max + 1] of more experts, now that the first have answered.

    -inf for fewer than were asked. A clip that asked none, or lacks an expert, is promised nothing.
    """
    k, most = plan.k, plan.promises.shape[1] - 1
    logits, answered = stack_replies(plan, replies)
    mixed = combine(plan, replies).logits
    complete = (answered == (plan.weights > 0)).all(1)
    renewed = torch.full_like(plan.promises, float("-inf"))
    renewed.scatter_(1, k.clamp_max(most).unsqueeze(1), 0.0)
    for depth in sorted({count for count in k[complete].tolist() if 0 < count < most}):
        rows = torch.nonzero(complete & (k == depth)).squeeze(1)
        own = first_asked(logits, answered, rows, depth)
        experts = torch.cat([plan.stem_logits[rows].unsqueeze(0), own])
        evidence = renew_evidence(plan.evidence[rows], experts, mixed[rows], router.task)
        renewed[rows, depth:] = router.promise(evidence, depth)[:, depth:]
    return renewed


def first_asked(logits: Tensor, answered: Tensor, rows: Tensor, depth: int) -> Tensor:
    """Return the logits [depth, n, C] of the experts that answered rows [n], ``depth`` each."""
    places = answered[rows].nonzero()[:, 1].view(len(rows), depth)
    return logits[places.T, rows.unsqueeze(0)]
