"""Another run beside the one that is served: as a shadow, or for a share of the recordings.

A shadow gets copies of the requests, and nobody waits for it; only how often it disagrees is
counted. A canary answers the recordings whose hash falls into its share, always the same ones.
Trouble in the other run costs no answer: where it fails, the served run answers.

Only recordings that come as files are tried; numbers in JSON, streams and explanations are not.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from xmoe.base.config import Frozen
from xmoe.serve.deploy.registry import TrialPlan
from xmoe.serve.schemas import ClassifyAnswer, Options
from xmoe.serve.telemetry.meter import Meter

LOG = logging.getLogger("xmoe.serve")
# A shadow that falls behind is skipped, not waited for.
MOST_SHADOWS = 8

Own = Callable[[], Awaitable[ClassifyAnswer]]
Ask = Callable[[bytes, dict[str, Any]], Awaitable[dict[str, Any]]]


class TrialCount(Frozen):
    """The result of a trial, in one router or in all.

    ``asked`` counts recordings sent to the candidate, ``failed`` those that only the served run
    answered, ``disagreed`` those with other labels, ``skipped`` those that a shadow had no time
    for. Milliseconds are sums over the answers of each run.
    """

    asked: int = 0
    answered: int = 0
    failed: int = 0
    degraded: int = 0
    disagreed: int = 0
    skipped: int = 0
    candidate_ms: float = 0.0
    own_ms: float = 0.0
    own_answers: int = 0

    def __add__(self, other: TrialCount) -> TrialCount:
        return TrialCount(**{name: value + getattr(other, name) for name, value in self})

    def plus(self, **more: float) -> TrialCount:
        """A copy with some counts raised."""
        return self.model_copy(update={name: getattr(self, name) + n for name, n in more.items()})


class Trial:
    """One plan, and ``ask``, which has the candidate answer."""

    def __init__(self, plan: TrialPlan, ask: Ask, *, timeout_s: float, meter: Meter) -> None:
        self.plan = plan
        self.count = TrialCount()
        self._ask = ask
        self._timeout_s = timeout_s
        self._meter = meter
        self._shadows: set[asyncio.Task[None]] = set()

    async def answer(self, data: bytes, options: Options, own: Own) -> ClassifyAnswer:
        """The answer to a recording, by the served run or by the candidate."""
        if self.plan.mode == "canary" and falls_into(data, self.plan.share):
            return await self._lead(data, options, own)
        began = time.monotonic()
        answer = await own()
        self._note(own_answers=1, own_ms=_ms_since(began))
        if self.plan.mode == "shadow" and falls_into(data, self.plan.share):
            self._follow(data, options, answer)
        return answer

    async def _lead(self, data: bytes, options: Options, own: Own) -> ClassifyAnswer:
        try:
            return await self._try(data, options)
        except Exception as error:  # the served run answers, or says what is wrong
            answer = await own()
            self._note("failed", asked=1, failed=1)
            LOG.warning("the candidate failed: %s", type(error).__name__)
            return answer

    def _follow(self, data: bytes, options: Options, answer: ClassifyAnswer) -> None:
        if len(self._shadows) >= MOST_SHADOWS:
            self._note("skipped", skipped=1)
            return
        task = asyncio.ensure_future(self._compare(data, options, answer))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _compare(self, data: bytes, options: Options, answer: ClassifyAnswer) -> None:
        try:
            said = await self._try(data, options)
        except Exception as error:  # nobody waits for it
            self._note("failed", asked=1, failed=1)
            LOG.warning("the shadow failed: %s", type(error).__name__)
            return
        if said.labels != answer.labels or said.label != answer.label:
            self._note("disagreed", disagreed=1)

    async def _try(self, data: bytes, options: Options) -> ClassifyAnswer:
        began = time.monotonic()
        async with asyncio.timeout(self._timeout_s):
            said = ClassifyAnswer.model_validate(
                await self._ask(data, options.model_dump(mode="json"))
            )
        spent, degraded = _ms_since(began), int(said.degraded)
        self._note("answered", asked=1, answered=1, candidate_ms=spent, degraded=degraded)
        return said

    async def finish(self) -> None:
        """Wait for shadows still at work."""
        await asyncio.gather(*self._shadows)

    def _note(self, outcome: str = "", **more: float) -> None:
        self.count = self.count.plus(**more)
        if outcome:
            self._meter.note_trial(self.plan.mode, outcome)


def falls_into(data: bytes, share: float) -> bool:
    """Whether a recording belongs to this share of all; by its hash, so always the same."""
    drawn = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return drawn < share * 2**64


def _ms_since(began: float) -> float:
    return 1000.0 * (time.monotonic() - began)
