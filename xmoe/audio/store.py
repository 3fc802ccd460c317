"""Examples -> decoded clips, in order, a few at a time.

libsndfile works without Python's lock, so threads decode side by side; only a short window of clips
is ever in memory. A file that cannot be used comes out as the ``AudioError`` that says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from xmoe.audio.clip import DEFAULT_LIMITS, Clip, DecodeLimits, read_clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.resample import resample
from xmoe.base.errors import AudioError

Progress = Callable[[int, int], None]

WINDOW_PER_WORKER = 2


def load_clip(
    dataset: Dataset,
    example: Example,
    *,
    sample_rate_hz: int | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> Clip:
    """Decode one example, resampled to ``sample_rate_hz`` if given; ``info`` stays the file's own.

    Raises ``AudioError`` if the file cannot be used.
    """
    clip = read_clip(
        dataset.path(example),
        start_s=example.start_s,
        end_s=example.end_s,
        limits=limits,
        name=example.filepath,
    )
    if sample_rate_hz is None or sample_rate_hz == clip.sample_rate_hz:
        return clip
    samples = resample(clip.samples, from_hz=clip.sample_rate_hz, to_hz=sample_rate_hz)
    return replace(clip, samples=samples, sample_rate_hz=sample_rate_hz)


def load_clips(
    dataset: Dataset,
    examples: Sequence[Example],
    *,
    sample_rate_hz: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    strict: bool = False,
) -> Iterator[tuple[Example, Clip | AudioError]]:
    """Yield every example with its clip, or with the error that it met, in the order given.

    At most ``2 * workers`` clips are held. ``progress(done, total)`` is called before each yield.
    ``strict`` raises the first ``AudioError`` instead of yielding it.
    """

    def load(example: Example) -> Clip | AudioError:
        try:
            return load_clip(dataset, example, sample_rate_hz=sample_rate_hz, limits=limits)
        except AudioError as error:
            return error

    pool = ThreadPoolExecutor(max_workers=max(workers, 1), thread_name_prefix="decode")
    waiting: deque[tuple[Example, Future[Clip | AudioError]]] = deque()
    upcoming = iter(examples)
    try:
        for done in range(1, len(examples) + 1):
            while len(waiting) < WINDOW_PER_WORKER * max(workers, 1):
                following = next(upcoming, None)
                if following is None:
                    break
                waiting.append((following, pool.submit(load, following)))
            example, future = waiting.popleft()
            outcome = future.result()
            if strict and isinstance(outcome, AudioError):
                raise outcome
            if progress is not None:
                progress(done, len(examples))
            yield example, outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
