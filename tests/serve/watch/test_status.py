"""Replica counts: what Serve's states mean, how long an answer is kept, who may not answer."""

import asyncio
import threading

import pytest
from ray.serve.schema import ReplicaState

from xmoe.serve.watch.status import Homes, ReplicaCount, ReplicaWatch, count_replicas


def test_replicas_that_come_are_a_target_and_those_that_stop_are_not():
    states = {ReplicaState.RUNNING: 1, ReplicaState.STARTING: 2, ReplicaState.STOPPING: 3}
    assert count_replicas(states) == ReplicaCount(running=1, target=3)
    assert count_replicas({}) == ReplicaCount(running=0, target=0)


@pytest.fixture
def counted():
    """A watch of two experts in one deployment, its clock, and the threads that were asked."""
    now, threads = [0.0], []

    def count():
        threads.append(threading.current_thread())
        return {"router": ReplicaCount(running=len(threads), target=9)}

    homes = Homes({"low": "router", "high": "router", "gone": "elsewhere"}, "router", count)
    return ReplicaWatch(homes, clock=lambda: now[0]), now, threads


def test_an_answer_is_kept_for_a_second_and_fetched_beside_the_loop(counted):
    watch, now, threads = counted

    async def main():
        first = await asyncio.gather(*(watch.count() for _ in range(5)))
        now[0] = 0.9
        kept = await watch.count()
        now[0] = 1.1
        return first, kept, await watch.count(), await watch.count_routers()

    first, kept, fresh, routers = asyncio.run(main())
    assert routers == ReplicaCount(running=2, target=9)
    assert {answer["low"].running for answer in (*first, kept)} == {1}
    assert fresh["high"].running == 2
    assert set(fresh) == {"low", "high"}
    assert threading.main_thread() not in threads


def test_a_controller_that_fails_leaves_the_counts_unknown():
    def count():
        raise ConnectionError

    watch = ReplicaWatch(Homes({"low": "expert-low"}, "router", count))
    assert asyncio.run(watch.count()) == {}
    assert watch.deployment_of("low") == "expert-low"


def test_without_serve_nothing_is_counted():
    watch = ReplicaWatch(None)
    assert asyncio.run(watch.count()) == {}
    assert asyncio.run(watch.count_routers()) is None
    assert watch.deployment_of("low") is None
