"""Hash, peak and clipping of blocks: known runs are counted once, however the blocks fall."""

import numpy as np
import pytest

from xmoe.audio.tally import Tally, mark_clipped
from xmoe.base.errors import AudioError


def tally_of(*blocks: np.ndarray, full_scale: float = 1.0) -> Tally:
    tally = Tally(16_000, blocks[0].shape[1], full_scale=full_scale)
    for block in blocks:
        tally.add(block, where="x")
    return tally


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("samples", "clipped"),
    [
        (column(0.1, 1, 1, 1, 0.2), 3),
        (column(0.1, 1, 1, 0.2, 1), 0),
        (column(1, 1, 1, 1, 1), 5),
        (column(1, 1, -1, -1, 1), 0),
        (column(-1, -1, -1, 0.5, 1), 3),
        (column(0.5, 0.5, 0.5, 0.5, 0.5), 0),
        (column(1.5, 1.4, 1.3, 1.2, 1.1), 0),
        (column(1.0), 0),
    ],
)
def test_runs_of_three_at_full_scale_count(samples, clipped):
    assert tally_of(samples).num_clipped == clipped
    assert mark_clipped(samples, full_scale=1.0).sum() == clipped


def test_channels_are_counted_on_their_own():
    samples = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [1, 0]], dtype=np.float32)
    assert tally_of(samples).num_clipped == 3


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_blocks_of_any_size_agree(size, rng):
    samples = rng.choice([0.5, 1.0, -1.0], p=[0.2, 0.6, 0.2], size=(200, 2)).astype(np.float32)
    whole = tally_of(samples)
    parts = tally_of(*np.split(samples, range(size, 200, size)))
    assert parts.num_clipped == whole.num_clipped > 0
    assert (parts.peak, parts.hexdigest()) == (whole.peak, whole.hexdigest())


def test_hash_knows_rate_and_channels():
    samples = np.zeros((8, 2), dtype=np.float32)
    flat = Tally(16_000, 1, full_scale=1.0)
    flat.add(samples.reshape(16, 1), where="x")
    assert flat.hexdigest() != tally_of(samples).hexdigest()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e10, -1e38])
def test_implausible_samples_are_refused(value):
    with pytest.raises(AudioError) as caught:
        tally_of(column(0.0, value, 0.0))
    assert caught.value.code == "non_finite"


def test_integers_written_as_floats_are_plausible():
    assert tally_of(column(0.0, -32_768.0, 0.0)).peak == 32_768.0


def test_the_share_of_clipped_samples_is_of_all_that_came():
    tally = Tally(8000, 2, full_scale=1.0)
    assert tally.clipped_rate == 0.0
    tally.add(np.ones((4, 2), np.float32), where="x")
    tally.add(np.zeros((12, 2), np.float32), where="x")
    assert tally.clipped_rate == 0.25
