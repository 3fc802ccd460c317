"""The overheads of a service that is itself simulated come back, and foretell loads between."""

import importlib
import os
from pathlib import Path

import pytest

from xmoe.serve.plan.capacity import Overheads
from xmoe.serve.plan.simulate import Asked, Demand, Times, simulate

FOLDER = Path(__file__).parents[2] / "benchmarks"
ROWS = [Asked(first=("a", "b"))]
KNOWN = Times(plan_ms=4.0, expert_ms={"a": 5.0, "b": 8.0}, max_rows=8)
WAITS = Overheads(
    proxy_ms=3.0,
    request_ms=6.0,
    call_ms=2.0,
    reply_ms=1.5,
    row_ms=1.0,
    delay_ms=12.0,
    spread=0.4,
)
WORKS_LATER = WAITS.model_copy(update={"delay_ms": 0.0, "aside_ms": 2.5})


@pytest.fixture(scope="module")
def plan():
    """Load the benchmark as it is loaded when it is run, on a machine of two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        yield importlib.import_module("plan")


def pretend(plan, true, clients):
    """Return what that many clients of a service with those overheads see."""
    fleet = plan.fleet_of(KNOWN, 0.2)
    demand = Demand(clients=clients, requests=3000)
    told = simulate(true.add_to(KNOWN), fleet, ROWS, demand, seed=clients)
    work_ms = {name: 1000.0 * busy / told.per_second for name, busy in told.busy.items()}
    return plan.Seen(
        clients=clients,
        p50_ms=told.p50_ms,
        p99_ms=told.p99_ms,
        per_second=told.per_second,
        work_ms={
            "proxy": work_ms["proxy"],
            "router": work_ms["router"],
            "experts": work_ms["a"] + work_ms["b"],
            "others": 200.0 / told.per_second,
        },
        calls=2.0 / told.rows,
    )


@pytest.mark.parametrize("true", [WAITS, WORKS_LATER])
def test_known_work_and_delay_are_found_again(plan, true):
    seen = [pretend(plan, true, count) for count in (1, 4, 32)]
    found = plan.find_overheads(KNOWN, ROWS, [seen[0], seen[-1]])
    given = true.model_dump()
    for name, value in found.model_dump().items():
        near = 0.1 if name == "spread" else 0.6
        assert value == pytest.approx(given[name], rel=0.08, abs=near), name
    for row in seen:
        demand = Demand(clients=row.clients, requests=2000)
        fleet = plan.fleet_of(KNOWN, seen[-1].others)
        told = simulate(found.add_to(KNOWN), fleet, ROWS, demand)
        for figure in plan.FIGURES:
            measured = getattr(row, figure)
            assert getattr(told, figure) == pytest.approx(measured, rel=0.1), (row.clients, figure)


def test_row_tells_its_largest_difference(plan):
    seen = plan.Seen(4, 100.0, 200.0, 40.0, {}, 1.0)
    told = simulate(KNOWN, plan.fleet_of(KNOWN), ROWS, Demand(clients=1, requests=50))
    told = told.model_copy(update={"p50_ms": 110.0, "p99_ms": 160.0, "per_second": 42.0})
    assert plan.describe(seen, told) == (
        "| 4 | 100.0 / 110.0 | 200.0 / 160.0 | 40.0 / 42.0 | 20% |"
    )


def test_calls_that_no_block_shares_cost_what_they_cost(plan):
    one, most = (plan.Seen(n, 1.0, 1.0, 1.0, {"router": 9.0}, 0.0) for n in (1, 32))
    assert plan.split("router", one, most) == (0.0, 9.0)
