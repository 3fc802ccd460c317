"""Segments are answered as recordings of their own; blocks and threads change nothing."""

import numpy as np
import pytest
import torch

from xmoe.annotate import answers
from xmoe.annotate.answers import Answered, answer_blocks
from xmoe.audio.segment import Grid


def collect(predictor, samples, grid, *, threads=1, block=1000):
    blocks = [samples[i : i + block] for i in range(0, len(samples), block)]
    groups = list(answer_blocks(predictor, blocks, grid, threads=threads))
    return (
        np.concatenate([g.starts for g in groups]),
        np.concatenate([g.probabilities for g in groups]),
        groups,
    )


@pytest.mark.parametrize("rate_hz", [8000, 11_025])
def test_each_segment_is_answered_as_predict_does(predictor, write_sound, rate_hz):
    _, samples = write_sound(4.13, rate_hz)
    grid = Grid.of(rate_hz, segment_s=0.4, hop_s=0.15)
    starts, p, _ = collect(predictor, samples, grid)
    assert starts.tolist() == grid.starts(len(samples))
    for start, row in zip(starts, p, strict=True):
        piece = samples[start : start + grid.length]
        wanted = predictor.predict(piece, rate_hz)
        np.testing.assert_allclose(row, list(wanted.probabilities.values()), atol=2e-5)


def test_blocks_and_threads_change_nothing(predictor, write_sound, monkeypatch):
    monkeypatch.setattr(answers, "GROUP_SAMPLES", 4 * 3200)
    _, samples = write_sound(6.0)
    grid = Grid.of(8000, segment_s=0.4, hop_s=0.1)
    starts, p, groups = collect(predictor, samples, grid)
    assert len(groups) > 10
    for threads, block in ((1, 177), (3, 8000), (4, 100_000)):
        other_starts, other_p, _ = collect(predictor, samples, grid, threads=threads, block=block)
        np.testing.assert_array_equal(starts, other_starts)
        np.testing.assert_array_equal(p, other_p)


def test_probabilities_of_several_labels_need_not_sum_to_one(predictor, write_sound, monkeypatch):
    _, samples = write_sound(1.0)
    grid = Grid.of(8000, segment_s=0.4, hop_s=0.4)
    _, single, _ = collect(predictor, samples, grid)
    np.testing.assert_allclose(single.sum(1), 1.0)
    model = predictor.config.model.model_copy(update={"task": "multi_label"})
    monkeypatch.setattr(predictor, "config", predictor.config.model_copy(update={"model": model}))
    _, several, _ = collect(predictor, samples, grid)
    assert not np.allclose(several.sum(1), 1.0)


def test_groups_are_of_bounded_size(predictor):
    *_, groups = collect(predictor, np.zeros(8000 * 40 + 900, np.float32), Grid(8000, 3200, 1600))
    assert [len(group.starts) for group in groups] == [64, 64, 64, 8]
    assert set(groups[-1].lengths) == {3200}


def test_threads_of_torch_are_as_before(predictor, write_sound):
    before = torch.get_num_threads()
    _, samples = write_sound(1.0)
    collect(predictor, samples, Grid(8000, 3200, 3200))
    assert torch.get_num_threads() == before


def test_an_error_in_a_group_is_raised(predictor, write_sound, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("lost")

    monkeypatch.setattr(answers, "answer_group", fail)
    _, samples = write_sound(1.0)
    with pytest.raises(RuntimeError, match="lost"):
        collect(predictor, samples, Grid(8000, 3200, 3200))


def test_a_segment_around_a_moment_has_its_time_and_its_neighbours_the_rest():
    starts = np.arange(5) * 100
    cells = np.stack([starts, starts + 100], 1)

    def answered(around):
        return Answered(
            starts=starts,
            lengths=np.full(5, 100),
            cells=cells,
            probabilities=np.zeros((5, 2)),
            k=np.zeros(5, np.int64),
            power=np.zeros((5, 4, 3), np.float32),
            around=np.array(around),
        )

    alone = answered([-1] * 5)
    assert alone.moments.tolist() == []
    assert alone.answered_cells.tolist() == cells.tolist()
    one = answered([-1, 130, -1, -1, -1])
    assert one.moments.tolist() == [130]
    assert one.answered_cells[:3].tolist() == [[0, 100], [130, 230], [230, 300]]
    between = answered([-1, 130, -1, 130, -1])
    assert between.answered_cells.tolist()[1::2] == [[130, 230], [230, 230]]
    both = answered([-1, 130, 190, 190, -1])
    assert both.answered_cells.tolist() == [
        [0, 100],
        [130, 210],
        [210, 290],
        [290, 290],
        [400, 500],
    ]
