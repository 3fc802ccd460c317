"""Windows begin at exact samples whatever the blocks are, and their cells tile the recording."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.annotate.windows import Grid, cut_windows
from xmoe.base.errors import ConfigError


def blocks_of(samples, size):
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@given(
    frames=st.integers(1, 400),
    length=st.integers(1, 90),
    hop=st.integers(1, 120),
    size=st.integers(1, 450),
)
def test_blocks_do_not_matter_and_windows_are_slices(frames, length, hop, size):
    samples = np.arange(frames, dtype=np.float32)
    grid = Grid(100, length, hop)
    windows = list(cut_windows(blocks_of(samples, size), grid))
    assert [w.start for w in windows] == [i * hop for i in range(len(windows))]
    assert len(windows) == grid.count(frames)
    for window in windows:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.start + length])
    assert all(len(w.samples) == length for w in windows[:-1])


@given(frames=st.integers(30, 400), length=st.integers(2, 90), share=st.floats(0.05, 1.0))
def test_cells_tile_the_recording(frames, length, share):
    grid = Grid(100, length, max(1, int(length * share)))
    windows = list(cut_windows([np.zeros(frames, np.float32)], grid))
    assert windows[0].cell_start == 0
    for one, other in pairwise(windows):
        assert one.cell_end == other.cell_start
    unheard = frames - windows[-1].cell_end
    assert 0 <= unheard < grid.shortest
    assert all(w.start <= w.cell_start < w.cell_end <= w.start + length for w in windows)


def test_hop_longer_than_a_window_leaves_gaps():
    windows = list(cut_windows([np.zeros(100, np.float32)], Grid(100, 10, 40)))
    assert [(w.cell_start, w.cell_end) for w in windows] == [(0, 10), (40, 50), (80, 90)]


def test_last_window_is_short_or_left_out():
    grid = Grid(1000, 100, 100)
    cut = [len(w.samples) for w in cut_windows([np.zeros(260, np.float32)], grid)]
    assert cut == [100, 100, 60]
    assert len(list(cut_windows([np.zeros(249, np.float32)], grid))) == 2
    alone = list(cut_windows([np.zeros(20, np.float32)], grid))
    assert [(w.cell_start, w.cell_end) for w in alone] == [(0, 20)]


def test_hop_is_rounded_to_a_sample_and_never_none():
    assert Grid.of(window_s=1.0, hop_s=0.1, sample_rate_hz=44_100).hop == 4410
    with pytest.raises(ConfigError, match="less than one sample"):
        Grid.of(window_s=1.0, hop_s=1e-6, sample_rate_hz=44_100)
