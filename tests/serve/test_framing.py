"""Windows of a stream: exact places for any pieces, a tail flush with the end, bounded memory."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.serve.framing import WindowCutter, read_pcm

SAMPLES = np.arange(100, dtype="<i2")


def cut(pieces, window=10, hop=4, encoding="pcm_s16le", most=100):
    cutter = WindowCutter(encoding, window_samples=window, hop_samples=hop)
    found = []
    for piece in pieces:
        cutter.push(piece)
        found += cutter.take(most)
    tail = cutter.finish()
    return found + ([tail] if tail else [])


@given(
    cuts=st.lists(st.integers(0, 200), max_size=12),
    window=st.integers(1, 30),
    hop=st.integers(1, 40),
    length=st.integers(0, 100),
)
def test_windows_do_not_depend_on_the_pieces(cuts, window, hop, length):
    raw = SAMPLES[:length].tobytes()
    edges = [0, *sorted(min(edge, len(raw)) for edge in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    found = cut(pieces, window, hop)
    starts = list(range(0, max(0, length - window + 1), hop))
    covered = starts[-1] + window if starts else 0
    if covered < length:
        starts.append(max(0, length - window))
    assert [w.start_sample for w in found] == starts
    assert [w.index for w in found] == list(range(len(starts)))
    for w in found:
        expected = SAMPLES[w.start_sample : min(w.start_sample + window, length)]
        assert w.samples.tolist() == (expected / 32768).astype(np.float32).tolist()


def test_at_most_so_many_at_once():
    cutter = WindowCutter("pcm_s16le", window_samples=10, hop_samples=10)
    cutter.push(SAMPLES.tobytes())
    assert cutter.ahead == 100
    assert [w.start_sample for w in cutter.take(3)] == [0, 10, 20]
    assert cutter.ahead == 70


def test_floats_are_taken_as_they_are():
    values = np.array([0.5, -2.0, np.nan], "<f4")
    found = read_pcm(values.tobytes(), "pcm_f32le")
    assert found.dtype == np.float32
    assert np.array_equal(found, values, equal_nan=True)


@pytest.mark.parametrize("hop", [1, 10, 25])
def test_memory_stays_that_of_a_window_and_a_hop(hop):
    cutter = WindowCutter("pcm_s16le", window_samples=10, hop_samples=hop)
    for _ in range(50):
        cutter.push(SAMPLES.tobytes())
        cutter.take(1000)
        assert len(cutter._buffer) <= 2 * (10 + hop)
    assert cutter.received == 5000
