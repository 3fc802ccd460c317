"""The simulated service obeys what queues must: known answers, conservation, saturation."""

import pytest

from tests.serve.plan.conftest import TIMES
from xmoe.serve.plan.simulate import Asked, Demand, Fleet, Times, simulate

BOTH = Asked(first=("a",), further=("b",))


def fleet(**changes):
    return Fleet(**({"routers": 1, "experts": {"a": 1, "b": 1}} | changes))


@pytest.mark.parametrize(
    ("asked", "ms"),
    [
        (Asked(), 1 + 1 + 4 + 1),
        (Asked(first=("a",)), 1 + 1 + 4 + (1.5 + 1 + 1.5 + 5) + 1),
        # Side by side: the slower one counts, and its call waits while the router sends the other.
        (Asked(first=("a", "b")), 1 + 1 + 4 + 1.5 + (1.5 + 1 + 1.5 + 8) + 1),
        (BOTH, 1 + 1 + 4 + (1.5 + 1 + 1.5 + 5) + (1.5 + 1 + 1.5 + 8) + 1),
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


def test_blocks_grow_with_the_load_and_calls_are_shared():
    few = simulate(TIMES, fleet(cores=2), [BOTH], Demand(clients=1, requests=200))
    many = simulate(TIMES, fleet(cores=2), [BOTH], Demand(clients=32, requests=2000))
    assert many.rows > 4.0
    assert many.cpu_ms < few.cpu_ms - 3.0  # of 6 ms for two calls most are shared


def test_rate_is_answered_until_it_is_more_than_there_is():
    # Without calls a router does 1000 / 6 = 167 recordings a second.
    calm = simulate(TIMES, fleet(), [Asked()], Demand(per_second=80.0, requests=6000))
    assert calm.per_second == pytest.approx(80.0, rel=0.05)
    full = simulate(TIMES, fleet(), [Asked()], Demand(per_second=300.0, requests=6000))
    assert full.per_second < 175.0
    assert full.p99_ms > 10 * calm.p99_ms


def test_waiting_is_that_of_the_textbook():
    """M/D/1: a proxy of 8 ms at 75 a second is busy 0.6, and is waited for 0.6 / 0.8 * 8 ms."""
    times = Times(
        proxy_ms=8.0, request_ms=0.0, plan_ms=1e-6, call_ms=0.0, link_ms=0.0, expert_ms={}
    )
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
