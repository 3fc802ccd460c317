"""The simulated service obeys what queues must: known answers, conservation, saturation."""

import numpy as np
import pytest

from tests.serve.plan.conftest import TIMES
from xmoe.serve.plan.simulate import Asked, Demand, Fleet, Service, Times, simulate

BOTH = Asked(first=("a",), further=("b",))


def fleet(**changes):
    return Fleet(**({"routers": 1, "experts": {"a": 1, "b": 1}} | changes))


@pytest.mark.parametrize(
    ("asked", "ms"),
    [
        (Asked(), 2 + 1 + 1 + 4 + 1),
        (Asked(first=("a",)), 2 + 1 + 1 + 4 + (1.5 + 1.5 + 5) + 1),
        # Side by side: the slower one counts, and its call waits while the router sends the other.
        (Asked(first=("a", "b")), 2 + 1 + 1 + 4 + 1.5 + (1.5 + 1.5 + 8) + 1),
        (BOTH, 2 + 1 + 1 + 4 + (1.5 + 1.5 + 5) + (1.5 + 1.5 + 8) + 1),
    ],
)
def test_one_client_waits_for_nobody(asked, ms):
    found = simulate(TIMES, fleet(), [asked], Demand(clients=1, requests=50))
    assert found.p50_ms == pytest.approx(ms)
    assert found.p99_ms == pytest.approx(ms)
    assert found.per_second == pytest.approx(1000.0 / ms, rel=0.03)
    assert found.rows == 1.0


def test_one_core_does_one_thing_at_a_time():
    found = simulate(TIMES, fleet(cores=1), [BOTH], Demand(clients=8, requests=800))
    assert sum(found.busy.values()) == pytest.approx(1.0, abs=0.02)
    assert found.per_second == pytest.approx(1000.0 / found.cpu_ms, rel=0.05)


def test_delay_passes_on_the_clock_and_costs_no_core():
    slow = TIMES.model_copy(update={"delay_ms": 42.0})
    one = Demand(clients=1, requests=50)
    alone, waits = (simulate(times, fleet(cores=1), [BOTH], one) for times in (TIMES, slow))
    assert waits.p50_ms == pytest.approx(alone.p50_ms + 40.0)
    many = Demand(clients=32, requests=2000)
    full, both = (simulate(times, fleet(cores=1), [BOTH], many) for times in (TIMES, slow))
    assert both.per_second == pytest.approx(full.per_second, rel=0.05)


def test_work_after_the_answer_costs_a_core_and_not_the_one_who_asked():
    later = TIMES.model_copy(update={"aside_ms": 3.0})  # over when the next has waited 2 + 1
    one = Demand(clients=1, requests=200)
    plain, found = (simulate(times, fleet(cores=1), [BOTH], one) for times in (TIMES, later))
    assert found.p50_ms == pytest.approx(plain.p50_ms, abs=1.0)
    assert found.cpu_ms == pytest.approx(plain.cpu_ms + 3.0)


def test_work_varies_by_its_spread():
    """Work of 9 ms on average, one exponential: the median is ln 2 of it, p99 ln 100."""
    times = Times(proxy_ms=9.0, plan_ms=0.0, expert_ms={}, spread=1.0)
    found = simulate(times, fleet(), [Asked()], Demand(clients=1, requests=20_000))
    assert found.cpu_ms == pytest.approx(9.0, rel=0.03)
    assert found.p50_ms == pytest.approx(9.0 * np.log(2.0), rel=0.03)
    assert found.p99_ms == pytest.approx(9.0 * np.log(100.0), rel=0.05)


def test_router_with_threads_has_more_than_one_core():
    many = Demand(clients=16, requests=2000)
    times = TIMES.model_copy(update={"request_ms": 20.0})
    one, two = (
        simulate(times.model_copy(update={"router_threads": n}), fleet(), [Asked()], many)
        for n in (1, 2)
    )
    assert one.per_second == pytest.approx(1000.0 / 24.0, rel=0.05)
    assert two.per_second == pytest.approx(2 * one.per_second, rel=0.1)


def test_what_others_take_of_the_cores_is_gone():
    many = Demand(clients=16, requests=2000)
    found = simulate(TIMES, fleet(cores=2, others=0.8), [Asked()], many)
    # A router of 6 ms on a core is what one can do; beside others it gets its turns all the same.
    assert found.per_second < 1000.0 / 6.0
    one = simulate(TIMES, fleet(cores=1, others=0.4), [Asked()], many)
    assert one.per_second == pytest.approx(600.0 / one.cpu_ms, rel=0.05)


def test_shared_core_is_shared_as_the_textbook_has_it():
    """M/D/1 with processor sharing: half busy, a job of 40 ms takes 40 / (1 - 0.5) on average."""
    times = Times(proxy_ms=40.0, plan_ms=0.0, expert_ms={})
    shared = Fleet(routers=1, experts={}, proxies=100, cores=1)
    demand = Demand(per_second=12.5, requests=8000)
    service = Service(times, shared, [Asked()], demand, np.random.default_rng(0))
    service.run()
    assert np.mean([ms for _, ms in service.answered]) == pytest.approx(80.0, rel=0.06)


def test_blocks_grow_with_the_load_and_calls_are_shared():
    few = simulate(TIMES, fleet(cores=2), [BOTH], Demand(clients=1, requests=200))
    many = simulate(TIMES, fleet(cores=2), [BOTH], Demand(clients=32, requests=2000))
    assert 4.0 < many.rows <= TIMES.max_rows
    assert many.cpu_ms < few.cpu_ms - 3.0  # of 6 ms for two calls most are shared


def test_rate_is_answered_until_it_is_more_than_there_is():
    # Without calls a router does 1000 / 6 = 167 recordings a second.
    calm = simulate(TIMES, fleet(), [Asked()], Demand(per_second=80.0, requests=3000))
    assert calm.per_second == pytest.approx(80.0, rel=0.05)
    full = simulate(TIMES, fleet(), [Asked()], Demand(per_second=300.0, requests=3000))
    assert full.per_second < 180.0  # part of the work on those counted was done before
    assert full.p99_ms > 10 * calm.p99_ms


def test_waiting_is_that_of_the_textbook():
    """M/D/1: a proxy of 8 ms at 75 a second is busy 0.6, and is waited for 0.6 / 0.8 * 8 ms."""
    times = Times(proxy_ms=8.0, plan_ms=1e-6, expert_ms={})
    demand = Demand(per_second=75.0, requests=20_000)
    found = simulate(times, Fleet(routers=1, experts={}), [Asked()], demand)
    assert found.busy["proxy"] == pytest.approx(0.6, abs=0.03)
    mean_ms = 8.0 + 0.6 / (2 * 0.4) * 8.0
    assert found.p50_ms < mean_ms < found.p99_ms
    assert found.p50_ms == pytest.approx(11.8, rel=0.15)


def test_same_seed_gives_same_figures():
    demand = Demand(per_second=60.0, requests=500)
    one, two = (simulate(TIMES, fleet(), [BOTH, Asked()], demand, seed=3) for _ in range(2))
    assert one == two
