"""Examples -> decoded clips, in order, a few at a time.

libsndfile works without Python's lock, so threads decode in parallel; only a few clips are in
memory at once. A file that cannot be used comes out as the ``AudioError`` that says why.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import AudioError

WORKERS = 2
CLIPS_HELD = 2 * WORKERS  # decoded clips in memory


def load_clip(dataset: Dataset, example: Example) -> Clip:
    return read_clip(
        dataset.path(example), start_s=example.start_s, end_s=example.end_s, name=example.filepath
    )


def load_clips(
    dataset: Dataset, examples: Sequence[Example]
) -> Iterator[tuple[Example, Clip | AudioError]]:
    """Yield every example with its clip, or with the error it met, in the order given.

    At most ``CLIPS_HELD`` clips are held.
    """

    def load(example: Example) -> Clip | AudioError:
        try:
            return load_clip(dataset, example)
        except AudioError as error:
            return error

    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="decode")
    waiting: deque[tuple[Example, Future[Clip | AudioError]]] = deque()
    upcoming = iter(examples)
    try:
        for _ in examples:
            for following in itertools.islice(upcoming, CLIPS_HELD - len(waiting)):
                waiting.append((following, pool.submit(load, following)))
            example, future = waiting.popleft()
            yield example, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
