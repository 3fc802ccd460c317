"""Segments of a store: those of the recordings, each measured alone; pooling by clip."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch

from xmoe.audio.segment import Grid
from xmoe.features.segments import Segments, eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.measure import measure_segments

# Shows power as it is.
BARE = SimpleNamespace(compress=lambda power, valid: power, config=SimpleNamespace(num_frames=33))


def flat_store(*counts, frames=33):
    """Return a store of clips with so many pieces, piece i of power 1 + i."""
    pieces = sum(counts)
    rows = np.log10(1.0 + np.arange(pieces)).repeat(frames)[:, None].repeat(16, 1)
    return SpectrogramStore(
        rows.astype(np.float16),
        np.arange(pieces + 1) * frames,
        np.concatenate([[0], np.cumsum(counts)]),
        np.zeros(len(counts), np.int64),
        tuple(f"{i}.wav" for i in range(len(counts))),
    )


def test_pooling_is_the_mean_over_the_segments_of_each_clip():
    segments = Segments(torch.empty(0), torch.tensor([0, 0, 1, 3]))
    logits = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0], [7.0, 1.0]])
    expected = torch.tensor([[2.0, 4.0], [5.0, 5.0], [0.0, 0.0], [7.0, 1.0]])
    assert torch.equal(segments.pool(logits, 4), expected)


def test_every_segment_of_the_clips_in_their_order():
    segments = eval_segments(flat_store(2, 1, 3), BARE, [2, 0])
    assert segments.clip.tolist() == [0, 0, 0, 1, 1]
    assert segments.spec[:, 0, 0].tolist() == pytest.approx([4, 5, 6, 1, 2], rel=1e-2)


def test_a_segment_is_what_is_measured_of_it_alone(tones, stores, frontend, config):
    rows, spectro = [4, 0, 9], config.spectro
    segments = eval_segments(stores["val"], frontend, rows)
    expected, owners = [], []
    for row, index in enumerate(rows):
        samples, rate = sf.read(tones.path(tones.split("val")[index]), dtype="float32")
        grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=spectro.segment_hop_s)
        expected.append(frontend.compress(*measure_segments(grid.cut(samples), frontend)))
        owners += [row] * len(expected[-1])
    assert segments.clip.tolist() == owners
    assert len(owners) > len(rows)
    torch.testing.assert_close(segments.spec, torch.cat(expected), rtol=0.0, atol=0.05)


def test_power_may_be_changed_first():
    plain = eval_segments(flat_store(1), BARE, [0]).spec
    doubled = eval_segments(flat_store(1), BARE, [0], change=lambda power: 2 * power).spec
    assert torch.equal(doubled, 2 * plain)


def test_whole_clips_are_no_segments():
    with pytest.raises(AssertionError, match="whole clips"):
        eval_segments(flat_store(1, frames=34), BARE, [0])
