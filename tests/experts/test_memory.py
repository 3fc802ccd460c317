"""Embeddings by their windows: found again, the least used forgotten, nothing broken kept."""

import numpy as np

from xmoe.experts.memory import EmbeddingMemory


def numbers(value):
    return np.full(4, value, np.float32)


def test_windows_are_known_by_their_samples():
    memory = EmbeddingMemory(1 << 10)
    window = np.arange(8, dtype=np.float32)
    one, same, other = memory.keys([window, np.stack([window, window], 1)[:, 0], window + 1])
    assert one == same != other
    memory.keep(one, numbers(1.0))
    assert memory.recall(same).tolist() == [1.0] * 4
    assert memory.recall(other) is None


def test_the_least_used_goes_where_there_is_no_room():
    memory = EmbeddingMemory(3 * 16)
    for name in (b"a", b"b", b"c"):
        memory.keep(name, numbers(1.0))
    memory.recall(b"a")
    memory.keep(b"d", numbers(1.0))
    assert len(memory) == 3
    assert [memory.recall(name) is None for name in (b"a", b"b", b"c", b"d")] == [
        False,
        True,
        False,
        False,
    ]


def test_what_is_not_finite_is_heard_again():
    memory = EmbeddingMemory(1 << 10)
    memory.keep(b"a", numbers(np.nan))
    assert memory.recall(b"a") is None


def test_no_room_keeps_nothing_and_hashes_nothing():
    memory = EmbeddingMemory(0)
    assert memory.keys([np.zeros(3, np.float32)]) == [b""]
    memory.keep(b"", numbers(1.0))
    assert len(memory) == 0
