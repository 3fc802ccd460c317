"""The replies to a micro-batch so far -> answers to its requests that are complete.

Requests of a block share its calls, so they share the arithmetic too: whenever a call ends, one
``combine`` over the whole block answers all requests that need nothing more. A request that lacks
an expert goes on alone, with its ``Share`` of the block.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xmoe.experts.protocol import ExpertReply, Inputs
from xmoe.mixture.combine import Combined, combine, mark_missing
from xmoe.mixture.plan import Plan
from xmoe.predict.answer import SegmentAnswers
from xmoe.serve.router.fanout import Calls, Share, finished
from xmoe.serve.router.limits import Limits
from xmoe.serve.router.replan import slice_rows

Read = Callable[[Plan, Combined], SegmentAnswers]
# Renewed promises [B, K_max + 1], None where there is never a second round.
Renew = Callable[[Plan, dict[str, ExpertReply]], Tensor | None]


class Block:
    """The plan of a block (``wanted`` before shut-out experts were replaced), its inputs and calls.

    ``read`` calibrates combined answers; ``renew`` gives the promises of further experts.
    """

    def __init__(
        self, wanted: Plan, plan: Plan, inputs: Inputs, calls: Calls, *, read: Read, renew: Renew
    ) -> None:
        self.wanted = wanted
        self.plan = plan
        self.inputs = inputs
        self.calls = calls
        self.begun = time.monotonic()
        self._read, self._renew = read, renew
        self._renewed: Tensor | None = None
        self._asked = (plan.weights > 0).numpy()
        self._replied: set[str] | None = None
        self._answers: SegmentAnswers | None = None
        self._complete = np.zeros(len(self._asked), dtype=bool)

    def calls_of(self, first: int, last: int) -> Calls:
        """The calls that rows ``first`` to ``last`` wait for."""
        asked: list[bool] = np.any(self._asked[first:last], axis=0).tolist()
        names = (
            name for name, any_row in zip(self.plan.expert_names, asked, strict=True) if any_row
        )
        return {name: self.calls[name] for name in names if name in self.calls}

    @torch.inference_mode()
    def answers(self, first: int, last: int) -> SegmentAnswers | None:
        """Answers to some rows; None while an expert that they wanted is missing."""
        replies = finished(self.calls)
        if self._replied != replies.keys():
            combined = combine(self.plan, replies)
            if self.wanted is not self.plan:
                combined = mark_missing(self.wanted.weights > 0, combined)
            self._complete = ~combined.missing.any(1).numpy()
            self._answers = self._read(self.plan, combined)
            self._renewed = self._renew(self.plan, replies)
            self._replied = set(replies)
        if self._answers is None or not self._complete[first:last].all():
            return None
        return self._answers.rows(first, last)

    def renewed(self, first: int, last: int) -> Tensor | None:
        """What more experts promise to some rows, as of the last call to ``answers``."""
        return None if self._renewed is None else self._renewed[first:last]


@dataclass(frozen=True)
class Seat:
    """One request's place in a block: rows ``first`` to ``last``, its limits, its deadline."""

    block: Block
    first: int
    last: int
    limits: Limits
    deadline: float

    @property
    def calls(self) -> Calls:
        return self.block.calls_of(self.first, self.last)

    def answers(self) -> SegmentAnswers | None:
        return self.block.answers(self.first, self.last)

    def share(self) -> Share:
        """What the request needs to go on alone."""
        block, rows = self.block, (self.first, self.last)
        plan = slice_rows(block.plan, *rows)
        wanted = plan if block.wanted is block.plan else slice_rows(block.wanted, *rows)
        inputs = slice_rows(block.inputs, *rows)
        return Share(wanted, plan, inputs, self.calls, *rows, self.deadline)
