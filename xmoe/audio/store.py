"""Examples -> decoded clips, in order, a few at a time.

libsndfile works without Python's lock, so threads decode in parallel; only a few clips are in
memory at once. A file that cannot be used comes out as the ``AudioError`` that says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import AudioError
from xmoe.base.threads import map_ahead

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

    clips = map_ahead(load, examples, threads=WORKERS, ahead=CLIPS_HELD, name="decode")
    with closing(clips):
        yield from zip(examples, clips, strict=True)
