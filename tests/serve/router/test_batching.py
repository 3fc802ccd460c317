"""What waits goes together, what finds the worker idle goes alone, too much is refused."""

import asyncio

import pytest

from xmoe.serve.router.batching import MicroBatcher, QueueFull


def run_batcher(script, *, max_size=4, max_waiting=100, fails=False):
    """Run ``script(batcher)``; return its result and the blocks that were worked on."""
    blocks = []

    async def work(items):
        blocks.append(list(items))
        await asyncio.sleep(0.05)  # far longer than the pauses below, on a busy machine too
        if fails:
            raise ValueError("broken")
        return [item * 10 for item in items]

    async def main():
        batcher = MicroBatcher(
            work, size_of=lambda item: item, max_size=max_size, max_waiting=max_waiting
        )
        return await script(batcher)

    return asyncio.run(main()), blocks


def test_one_item_goes_at_once():
    result, blocks = run_batcher(lambda batcher: batcher.submit(1))
    assert (result, blocks) == (10, [[1]])


def test_items_that_wait_go_together_in_order():
    async def script(batcher):
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.submit(1)) for _ in range(6)]
        return await asyncio.gather(first, *rest)

    results, blocks = run_batcher(script)
    assert results == [10] * 7
    assert [len(block) for block in blocks] == [1, 4, 2]


def test_items_of_one_turn_of_the_loop_go_together_though_nobody_works():
    async def script(batcher):
        return await asyncio.gather(*(batcher.submit(1) for _ in range(3)))

    _, blocks = run_batcher(script)
    assert blocks == [[1, 1, 1]]


def test_items_join_as_long_as_turns_bring_more_but_no_block_waits_for_a_full_one():
    async def script(batcher):
        async def trickle():
            for _ in range(6):
                tasks.append(asyncio.create_task(batcher.submit(1)))
                await asyncio.sleep(0)  # one each turn

        tasks = []
        await trickle()
        await asyncio.gather(*tasks)

    _, blocks = run_batcher(script)
    assert [len(block) for block in blocks] == [4, 2]


def test_item_above_the_size_goes_alone():
    async def script(batcher):
        return await asyncio.gather(batcher.submit(9), batcher.submit(1))

    results, blocks = run_batcher(script)
    assert (results, blocks) == ([90, 10], [[9], [1]])


def test_too_much_is_refused():
    async def script(batcher):
        tasks = [asyncio.create_task(batcher.submit(1)) for _ in range(20)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    results, _ = run_batcher(script, max_waiting=5)
    assert sum(isinstance(result, QueueFull) for result in results) == 15
    assert results.count(10) == 5


def test_error_is_that_of_each_item_and_the_next_block_goes_on():
    async def script(batcher):
        results = await asyncio.gather(batcher.submit(1), batcher.submit(1), return_exceptions=True)
        with pytest.raises(ValueError, match="broken"):
            await batcher.submit(1)
        return results

    results, blocks = run_batcher(script, fails=True)
    assert all(isinstance(result, ValueError) for result in results)
    assert len(blocks) == 2


def test_item_that_was_given_up_is_not_worked_on():
    async def script(batcher):
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.001)
        second = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0.001)
        second.cancel()
        await first
        return await batcher.submit(3)

    _, blocks = run_batcher(script)
    assert blocks == [[1], [3]]
