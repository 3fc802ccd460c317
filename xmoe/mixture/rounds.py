"""A plan + callers -> an answer, in one round or two.

Where too little of the planned weight answers, the next experts are asked in place of those
missing. Once the experts of a plan have answered, a router that promises decides again: where their
answer does not promise enough for its price, the next experts are asked, once. Earlier replies are
kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from xmoe.base.config import MIN_GATE_MASS, RoutingConfig
from xmoe.experts.protocol import ExpertReply, Inputs
from xmoe.glance.router import choose_counts
from xmoe.mixture.calls import AskExpert, call_experts, merge_replies
from xmoe.mixture.combine import Combined, combine, mark_missing, stack_replies
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
    """The final plan and its answer, by the experts of this process.

    ``callers`` replace the model's own experts; ``k_max`` bounds how many are asked in all.
    """
    callers = model.callers() if callers is None else callers
    wanted = plan.weights > 0
    plan, replies = ask_with_others(model, plan, inputs, callers)
    lost = wanted & ~stack_replies(plan, replies)[1] | missing_of(plan, callers)
    further = ask_further(model, plan, replies, routing, k_max=k_max, lost=lost)
    if further is not None:
        others = drop_rows(further, plan.weights > 0)
        replies = merge_replies(replies, call_experts(callers, model.requests(others, inputs)))
        plan = further
    return plan, mark_missing(wanted | (plan.weights > 0), combine(plan, replies))


def ask_with_others(
    model: MoE, plan: Plan, inputs: Inputs, callers: Mapping[str, AskExpert]
) -> tuple[Plan, dict[str, ExpertReply]]:
    """Ask a plan's experts, and others in place of those that do not answer.

    Others are asked for clips that lack too much weight; each clip keeps its K while there are
    enough experts. Where none is left the stem answers.
    """
    replies = call_experts(callers, model.requests(plan, inputs))
    first = combine(plan, replies)
    weak = first.gate_mass < MIN_GATE_MASS
    if not bool(weak.any()):
        return plan, replies
    lost = first.missing | missing_of(plan, callers)
    weights = plan.preference.without(lost).choose(plan.k)
    plan = replace(plan, weights=torch.where(weak.unsqueeze(1), weights, plan.weights))
    others = drop_rows(plan, first.answered)
    return plan, merge_replies(replies, call_experts(callers, model.requests(others, inputs)))


def missing_of(plan: Plan, callers: Mapping[str, AskExpert]) -> Tensor:
    """Which experts of a plan have no caller, [E]."""
    gone = [name not in callers for name in plan.expert_names]
    return torch.tensor(gone, device=plan.weights.device)


@torch.no_grad()
def ask_further(
    model: MoE,
    plan: Plan,
    replies: Mapping[str, ExpertReply],
    routing: RoutingConfig,
    *,
    k_max: int | None = None,
    lost: Tensor | None = None,
) -> Plan | None:
    """The plan with the experts that the answer so far makes worth asking, or None.

    None where no clip asks for more. A clip that lacks an expert makes do with those it has.
    Experts that are ``lost`` [B, E] are passed over.
    """
    if not isinstance(model.router, PromiseRouter):
        return None
    renewed = renew_promises(model.router, plan, replies)
    chosen = choose_counts(renewed, routing.k_price, k_max, costs_ms=routing.costs_ms)
    counts = torch.maximum(chosen, plan.k)
    more = counts > plan.k
    if not bool(more.any()):
        return None
    preference = plan.preference if lost is None else plan.preference.without(lost)
    weights = torch.where(more.unsqueeze(1), preference.choose(counts), plan.weights)
    return replace(plan, weights=weights)


def renew_promises(router: PromiseRouter, plan: Plan, replies: Mapping[str, ExpertReply]) -> Tensor:
    """Promises [B, K_max + 1] of more experts, now that the first have answered.

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
    """Logits [depth, n, C] of the experts that answered rows [n], ``depth`` each."""
    places = answered[rows].nonzero()[:, 1].view(len(rows), depth)
    return logits[places.T, rows.unsqueeze(0)]
