"""Segments: exact places, the same whole and in blocks, cells that tile the recording."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.audio.segment import Cutter, Grid, Segment, segment_starts, share_time

FRAMES, LENGTH, HOP = st.integers(1, 400), st.integers(1, 90), st.integers(1, 120)


@given(size=st.integers(1, 300), length=st.integers(1, 120), hop=st.integers(0, 150))
def test_pieces_begin_at_every_hop_and_end_with_the_whole(size, length, hop):
    room = max(0, size - length)
    expected = [start for start in range(room + 1) if start % max(1, hop) == 0 or start == room]
    assert segment_starts(size, length, hop) == expected


@given(frames=FRAMES, length=LENGTH, hop=HOP, size=st.integers(1, 450))
def test_blocks_do_not_matter_and_segments_are_slices(frames, length, hop, size):
    samples = np.arange(frames, dtype=np.float32)
    grid = Grid(100, length, hop)
    blocks = [samples[i : i + size] for i in range(0, frames, size)]
    whole, streamed = grid.cut(samples), list(grid.cut_blocks(blocks))
    assert [one.start for one in whole] == [one.start for one in streamed] == grid.starts(frames)
    assert whole[-1].end == frames
    for one, other in zip(whole, streamed, strict=True):
        np.testing.assert_array_equal(one.samples, samples[one.start : one.start + length])
        np.testing.assert_array_equal(one.samples, other.samples)
        assert len(one.samples) == min(length, frames)


@given(frames=FRAMES, length=LENGTH, share=st.floats(0.01, 1.0))
def test_cells_tile_the_recording(frames, length, share):
    grid = Grid(100, length, max(1, int(length * share)))
    segments = grid.cut(np.zeros(frames, np.float32))
    cells = [cell for _, cell in share_time(segments)]
    assert (cells[0][0], cells[-1][1]) == (0, frames)
    for one, other in pairwise(cells):
        assert one[1] == other[0]
    for segment, (begin, end) in share_time(segments):
        assert segment.start <= begin <= end <= segment.end


def test_neighbours_meet_in_the_middle_of_their_overlap():
    segments = Grid(100, 10, 4).cut(np.zeros(21, np.float32))
    assert [s.start for s in segments] == [0, 4, 8, 11]
    assert [cell for _, cell in share_time(segments)] == [(0, 7), (7, 11), (11, 14), (14, 21)]


def test_hop_longer_than_a_segment_leaves_gaps_but_not_at_the_end():
    segments = Grid(100, 10, 40).cut(np.zeros(98, np.float32))
    cells = [cell for _, cell in share_time(segments)]
    assert cells == [(0, 10), (40, 50), (80, 89), (89, 98)]


def test_places_in_seconds():
    (segment,) = Grid(8000, 4000, 2000).cut(np.zeros(100, np.float32))
    assert (segment.start_s, segment.end_s) == (0.0, 0.0125)
    later = Segment(np.zeros(441, np.float32), 44_100, 4410)
    assert (later.end, later.start_s, later.end_s) == (4851, 0.1, 0.11)


def test_length_and_hop_are_rounded_to_samples_and_never_none():
    assert Grid.of(44_100, segment_s=1.0, hop_s=0.1) == Grid(44_100, 44_100, 4410)
    assert Grid.of(8000, segment_s=1e-9, hop_s=1e-9) == Grid(8000, 1, 1)


def test_nothing_comes_of_nothing():
    assert list(Grid(100, 10, 5).cut_blocks([])) == []
    cutter = Cutter(Grid(100, 10, 5))
    assert (cutter.received, cutter.ahead, cutter.take(), cutter.finish()) == (0, 0, None, None)


def test_what_waits_is_counted():
    cutter = Cutter(Grid(100, 10, 10))
    cutter.push(np.zeros(100, np.float32))
    assert cutter.ahead == 100
    assert [cutter.take().start for _ in range(3)] == [0, 10, 20]
    assert (cutter.ahead, cutter.received) == (70, 100)


@pytest.mark.parametrize("hop", [1, 10, 25])
@pytest.mark.parametrize("size", [1, 100])
def test_memory_stays_that_of_a_segment_and_a_block(hop, size):
    cutter = Cutter(Grid(100, 10, hop))
    for _ in range(5000 // size):
        cutter.push(np.zeros(size, np.float32))
        while cutter.take() is not None:
            pass
        assert len(cutter._held) <= 3 * (10 + size)
    assert cutter.received == 5000
