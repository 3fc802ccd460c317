"""Reports of single routers -> one report of all.

A question about the service reaches one router, like any request. That one asks all others through
Serve's handle, waits a second at most, and says how many it speaks for: routers that are dead or
hang are left out. Routers with other weights, as during an upgrade, are counted apart.
"""

from __future__ import annotations

import asyncio
import logging
import operator
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from pydantic import Field

from xmoe.base.config import Frozen
from xmoe.serve.deploy.trial import TrialCount
from xmoe.serve.experts.breaker import State
from xmoe.serve.telemetry.tally import Calls
from xmoe.serve.watch.drift import DriftCount
from xmoe.serve.watch.kept import Kept

LOG = logging.getLogger("xmoe.serve")
WITHIN_S = 1.0
WORST_FIRST: tuple[State, ...] = ("open", "half-open", "closed")


class RouterReport(Frozen):
    """One router replica: its calls to each expert, and its own answers.

    ``asked`` counts answers by K, rounded to a whole number; ``k_total`` sums it.
    """

    replica: str = ""
    weights_sha256: str = ""
    waiting_segments: int = 0
    experts: dict[str, Calls] = Field(default_factory=dict)
    breakers: dict[str, State] = Field(default_factory=dict)
    requests: Calls = Calls()
    asked: dict[int, int] = Field(default_factory=dict)
    k_total: float = 0.0
    degraded: int = 0
    drift: DriftCount | None = None
    trial: TrialCount | None = None


class Spoken(Frozen):
    """How many routers an answer speaks for.

    ``silent_routers`` did not answer within a second; null where the others could not be asked.
    ``other_routers`` counts those with other weights, as during an upgrade.
    """

    routers: int = 1
    silent_routers: int | None = 0
    other_routers: int = 0


# Asks every router for its report; None stands for one that did not answer in time.
AskRouters = Callable[[], Awaitable[Sequence[RouterReport | None]]]


@dataclass(frozen=True)
class Siblings:
    """One router replica of an application, and a way to ask all of them."""

    replica: str
    application: str
    ask: AskRouters


@dataclass(frozen=True)
class Reports:
    """Reports of the routers with the same weights, the asking router's first.

    ``silent`` did not answer, None where nobody could be asked; ``others`` counts routers by other
    weights.
    """

    routers: tuple[RouterReport, ...]
    silent: int | None = 0
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def spoken(self) -> dict[str, Any]:
        """How many routers this speaks for, as fields of ``Spoken``."""
        others = sum(self.others.values())
        return dict(
            Spoken(routers=len(self.routers), silent_routers=self.silent, other_routers=others)
        )

    @property
    def waiting_segments(self) -> int:
        """Segments that wait for a micro-batch, in all of them."""
        return sum(one.waiting_segments for one in self.routers)

    def calls_to(self, expert: str) -> Calls:
        return sum((one.experts.get(expert, Calls()) for one in self.routers), Calls())

    def breakers_of(self, expert: str) -> dict[State, int]:
        """How many routers have the expert's breaker in each state, worst first."""
        states = Counter(one.breakers[expert] for one in self.routers if expert in one.breakers)
        return {state: states[state] for state in WORST_FIRST if states[state]}

    @property
    def drift(self) -> DriftCount | None:
        """The recent recordings of all; None where drift is not watched."""
        counts = [one.drift for one in self.routers if one.drift is not None]
        return reduce(operator.add, counts) if counts else None


class Fleet:
    """The reports of all routers, at most a second old; only the own one without siblings."""

    def __init__(self, own: Callable[[], RouterReport], siblings: Siblings | None) -> None:
        self._own = own
        self._siblings = siblings
        self._found = Kept(self._ask)

    async def reports(self) -> Reports:
        """What the routers report, the own one always among them and current."""
        own = self._own()
        if self._siblings is None:
            return Reports((own,))
        found = await self._found.get()
        if found is None:
            return Reports((own,), silent=None)
        reported = [one for one in found if one is not None and one.replica != own.replica]
        alike = [one for one in reported if one.weights_sha256 == own.weights_sha256]
        others = Counter(one.weights_sha256 for one in reported if one not in alike)
        return Reports((own, *alike), sum(one is None for one in found), others)

    async def _ask(self) -> Sequence[RouterReport | None] | None:
        assert self._siblings is not None
        try:
            async with asyncio.timeout(2.0 * WITHIN_S):
                return await self._siblings.ask()
        except Exception as error:  # Ray raises its own kinds for a controller that is not there
            LOG.warning("the other routers cannot be asked: %s", type(error).__name__)
            return None


async def gather_reports(
    calls: Iterable[Awaitable[Any]], *, within_s: float = WITHIN_S
) -> list[RouterReport | None]:
    """The reports that arrive in time, None for a router that hangs or fails."""

    async def read(call: Awaitable[Any]) -> RouterReport:
        return RouterReport.model_validate(await call)

    tasks = [asyncio.ensure_future(read(call)) for call in calls]
    done, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        task.cancel()

    def has_told(task: asyncio.Task[RouterReport]) -> bool:
        return task in done and not task.cancelled() and task.exception() is None

    return [task.result() if has_told(task) else None for task in tasks]
