"""A finding is kept for its time, and many who want it at once ask once."""

import asyncio

import pytest

from xmoe.serve.watch.kept import Kept


def test_it_is_asked_for_once_in_its_time():
    now, asked = [0.0], []

    async def ask():
        asked.append(now[0])
        await asyncio.sleep(0)
        return len(asked)

    async def main():
        kept = Kept(ask, kept_s=1.0, clock=lambda: now[0])
        first = await asyncio.gather(*(kept.get() for _ in range(5)))
        now[0] = 0.9
        again = await kept.get()
        now[0] = 1.0
        return first, again, await kept.get()

    assert asyncio.run(main()) == ([1] * 5, 1, 2)
    assert asked == [0.0, 1.0]


def test_a_failure_is_not_kept():
    outcomes = [ValueError(), 7]

    async def ask():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main():
        kept = Kept(ask)
        with pytest.raises(ValueError):  # noqa: PT011
            await kept.get()
        return await kept.get()

    assert asyncio.run(main()) == 7
