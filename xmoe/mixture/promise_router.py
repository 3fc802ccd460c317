"""Glance and answers so far -> how many experts are asked, in a fixed order, with learned weights.

The router of a mixture that was fitted in closed form. Experts are asked in the order in which they
were selected, cheap and good first; each number of experts has weights that were learned on
held-out answers, and a promise that the answer is right. Once the first experts have answered the
promises are made again from their answer: the second round may ask more.
G numbers of evidence; other shapes as in ``xmoe.mixture``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmoe.base.config import ModelConfig
from xmoe.base.task import Task, task_of
from xmoe.glance.evidence import (
    NUM_CONCENTRATIONS,
    NUM_CONDITIONS,
    describe_saliency,
    measure_conditions,
)
from xmoe.mixture.plan import Preference
from xmoe.routing.promise import (
    ANSWER_NUMBERS,
    REACH,
    Promises,
    describe_answer,
    describe_belief,
)
from xmoe.routing.stack import Stack

STEM_NAME = "stem"
# Columns of the evidence that hold saliency and conditions; before them stand the answers.
GLANCED = slice(2 * ANSWER_NUMBERS, None)
_LEAST_SHARE = 1e-9  # so that an expert without weight has a logarithm


class PromiseRouter(nn.Module):
    """Weights of stem and experts by how many are asked, and promises by how many have answered.

    ``shares`` [K_max + 1, 1 + E], the stem first; row k is for k experts, and the later entries of
    a row are the weights of experts that stand in for missing ones. Promises after d
    answers are row d of ``mean`` and ``scale`` [K_max + 1, G], ``weights`` [K_max + 1, K_max + 1,
    G] and ``bias`` [K_max + 1, K_max + 1]. ``first_most`` is how many the first round may ask. What
    follows from these for every clip is kept beside them: ``derive`` after a change.
    """

    shares: Tensor
    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    first_most: Tensor
    allowed: Tensor
    order: Tensor
    log_shares: Tensor
    stem_shares: Tensor

    def __init__(self, config: ModelConfig, *, num_rows: int) -> None:
        super().__init__()
        self.task = task_of(config.task)
        count, depths = len(config.experts), config.k_max + 1
        width = 2 * ANSWER_NUMBERS + num_rows + NUM_CONCENTRATIONS + 2 + NUM_CONDITIONS
        self.register_buffer("shares", torch.full((depths, 1 + count), 1.0 / (1 + count)))
        self.register_buffer("mean", torch.zeros(depths, width))
        self.register_buffer("scale", torch.ones(depths, width))
        self.register_buffer("weights", torch.zeros(depths, depths, width))
        self.register_buffer("bias", torch.zeros(depths, depths))
        self.register_buffer("first_most", torch.tensor(config.k_max))
        masked = [name in config.masked_experts for name in config.expert_names]
        self.register_buffer("allowed", ~torch.tensor(masked), persistent=False)
        self.register_buffer("order", torch.zeros(count), persistent=False)
        self.register_buffer("log_shares", torch.zeros(depths, count), persistent=False)
        self.register_buffer("stem_shares", torch.zeros(depths), persistent=False)
        self.derive()
        then: Any = self.register_load_state_dict_post_hook  # torch gives it no types
        then(_derive_again)

    def derive(self) -> None:
        """Renew what follows from weights and shares, of which each clip needs it."""
        never = float("-inf")
        order = -torch.arange(len(self.allowed), dtype=torch.float32, device=self.shares.device)
        shares = self.shares[:, 1:].clamp_min(_LEAST_SHARE).log()
        self.order.copy_(order.masked_fill(~self.allowed, never))
        self.log_shares.copy_(shares.masked_fill(~self.allowed, never))
        self.stem_shares.copy_(self.shares[:, 0] / prefix_sums(self.shares))
        # Before any fit nothing is known of what will be read.
        self.reads_glance = not self.weights.any() or bool(self.weights[..., GLANCED].any())

    def fill(self, stacks: Sequence[Stack], promises: Promises, names: Sequence[str]) -> None:
        """Take over the weights for 0, 1, ... experts of ``names``, and the promises."""
        self.shares.copy_(tabulate_shares(stacks, names))
        self.first_most.fill_(promises.first_most)
        for depth, promise in enumerate(promises.depths):
            self.mean[depth] = torch.tensor(promise.mean)
            self.scale[depth] = torch.tensor(promise.scale)
            self.weights[depth, depth:] = torch.tensor(promise.weights)
            self.bias[depth, depth:] = torch.tensor(promise.bias)
        self.derive()

    def measure_evidence(
        self, *, features: Tensor, cells: Tensor, belief: Tensor, spec: Tensor
    ) -> Tensor:
        """Evidence [B, G] of the glance; before any expert answers the stem's answer stands twice.

        ``features`` of the stem map are not read: they differ from stem to stem.
        """
        parts = [describe_stem(belief), describe_saliency(cells), measure_conditions(spec)]
        return torch.cat(parts, 1)

    def needed_evidence(
        self, *, features: Tensor, cells: Tensor, belief: Tensor, spec: Tensor
    ) -> Tensor:
        """The same evidence, with zeros for what no promise reads."""
        if self.reads_glance:
            return self.measure_evidence(features=features, cells=cells, belief=belief, spec=spec)
        answers = describe_stem(belief)
        unread = self.mean.shape[1] - answers.shape[1]
        return functional.pad(answers, (0, unread))

    def promise(self, evidence: Tensor, depth: int) -> Tensor:
        """Promises [B, K_max + 1] once ``depth`` experts have answered; 0 below depth."""
        return torch.sigmoid(self._odds(evidence, depth)).index_fill(
            1, torch.arange(depth, device=evidence.device), 0.0
        )

    def _odds(self, evidence: Tensor, depth: int) -> Tensor:
        seen = (evidence - self.mean[depth]) / self.scale[depth]
        return seen.clamp(-REACH, REACH) @ self.weights[depth].T + self.bias[depth]

    def forward(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights [B, E] (-inf where masked) and log-odds of promises [B, K_max + 1]."""
        gate = self.log_shares[-1].expand(len(evidence), -1)
        return gate, self._odds(evidence, 0)

    def prefer(self, gate_logits: Tensor) -> Preference:
        """Experts in their fixed order, with weights for each number of them."""
        batch = len(gate_logits)
        return Preference(
            self.order.expand(batch, -1),
            self.log_shares.expand(batch, -1, -1),
            self.stem_shares.expand(batch, -1),
        )


def _derive_again(router: PromiseRouter, _: object) -> None:
    """What follows from weights that have been loaded."""
    router.derive()


def describe_stem(belief: Tensor) -> Tensor:
    """Evidence in the stem's belief [n, C]: once as its answer, once as the mixed one."""
    most = belief.amax(1)
    answer = describe_belief(belief, torch.ones_like(most), most, torch.zeros_like(most))
    return torch.cat([answer, answer], 1)


def renew_belief(evidence: Tensor, belief: Tensor) -> Tensor:
    """Evidence [n, G] of a glance with another belief [n, C]."""
    return torch.cat([describe_stem(belief), evidence[:, GLANCED]], 1)


def renew_evidence(evidence: Tensor, experts: Tensor, mixed: Tensor, task: Task) -> Tensor:
    """Evidence [n, G] with the answer of stem and experts [1 + k, n, C] in it.

    ``mixed`` [n, C] is the answer that they give together.
    """
    answer = describe_answer(experts, mixed, task).to(evidence.dtype)
    return torch.cat([answer, evidence[:, ANSWER_NUMBERS:]], 1)


def prefix_sums(shares: Tensor) -> Tensor:
    """Weight of the stem and the first k experts in row k of shares [K_max + 1, 1 + E]."""
    return shares.cumsum(1).diagonal()


def tabulate_shares(stacks: Sequence[Stack], names: Sequence[str]) -> Tensor:
    """Shares [K_max + 1, 1 + E] of the weights for 0, 1, ... experts.

    In each row the stem and the experts that are asked sum to one; the others keep their share
    among all, so that one of them can stand in.
    """
    order = [STEM_NAME, *names]
    full = stacks[-1].weights
    whole = sum(full.values())
    rows = []
    for stack in stacks:
        total = sum(stack.weights.values())
        row = [
            stack.weights[name] / total if name in stack.weights else full.get(name, 0.0) / whole
            for name in order
        ]
        rows.append(row)
    return torch.tensor(rows)
