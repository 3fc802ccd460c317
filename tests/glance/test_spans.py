"""Windows: scores, choice and edges in seconds against slow loops, with a ragged last window."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xmoe.glance.spans import (
    band_masks,
    choose_runs,
    choose_windows,
    num_windows,
    score_cells,
    score_windows,
    window_edges_s,
    windows_kept,
)

BANDS = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("columns", "window_frames", "total"),
    [(1, 4, 1), (4, 4, 1), (5, 4, 2), (8, 4, 2), (9, 1, 9), (11, 2, 6)],
)
def test_windows_cover_every_column(columns, window_frames, total):
    assert num_windows(columns, window_frames) == total


@pytest.mark.parametrize(
    ("total", "fraction", "kept"),
    [(16, 1.0, 16), (16, 0.5, 8), (16, 1 / 16, 1), (16, 0.001, 1), (1, 0.5, 1), (6, 0.25, 2)],
)
def test_a_fraction_keeps_at_least_one_window(total, fraction, kept):
    assert windows_kept(total, fraction) == kept


@given(total=st.integers(1, 200), low=st.floats(0.001, 1.0), high=st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=60)
def test_a_larger_fraction_never_keeps_fewer(total, low, high):
    low, high = sorted((low, high))
    assert 1 <= windows_kept(total, low) <= windows_kept(total, high) <= total


@pytest.mark.parametrize("selector", ["saliency", "cam", "feature", "energy"])
def test_cell_scores_of_every_selector_equal_a_slow_loop(selector):
    saliency, energy = noise(2, 4, 5, seed=1), noise(2, 4, 5, seed=2)
    cam, features = noise(2, 4, 5, seed=3) - 0.5, noise(2, 3, 4, 5, seed=4)
    scores = score_cells(selector, saliency=saliency, cam=cam, features=features, energy=energy)
    assert scores.shape == (2, 4, 5)
    for clip in range(2):
        for row in range(4):
            for column in range(5):
                at = (clip, row, column)
                spread = sum(
                    (
                        float(features[clip, channel, row, column])
                        - float(features[clip, channel, row].mean())
                    )
                    ** 2
                    for channel in range(3)
                )
                expected = {
                    "saliency": float(saliency[at]),
                    "cam": max(0.0, float(cam[at])),
                    "feature": spread,
                    "energy": float(energy[at]),
                }
                assert float(scores[at]) == pytest.approx(expected[selector], abs=1e-6)


def test_random_has_no_scores_of_its_own():
    cells = torch.zeros(1, 4, 5)
    with pytest.raises(ValueError, match="'random' has no scores"):
        score_cells("random", saliency=cells, cam=cells, features=cells.unsqueeze(1), energy=cells)


@pytest.mark.parametrize("columns", range(1, 10))
def test_window_scores_equal_a_slow_loop_with_a_ragged_end(columns):
    cells = noise(2, 4, columns, seed=columns)
    scores = score_windows(cells, BANDS, 4)
    total = -(-columns // 4)
    assert scores.shape == (2, 3, total)
    for clip in range(2):
        for expert, rows in enumerate([(0, 1, 2, 3), (0, 1), (3,)]):
            for window in range(total):
                span = range(4 * window, min(columns, 4 * window + 4))
                expected = sum(float(cells[clip, r, w]) for r in rows for w in span)
                assert float(scores[clip, expert, window]) == pytest.approx(expected, abs=1e-5)


@given(seed=st.integers(0, 1000), total=st.integers(1, 12), keep=st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_chosen_windows_are_the_best_in_the_order_of_time(seed, total, keep):
    keep = min(keep, total)
    scores = noise(2, 3, total, seed=seed)
    chosen = choose_windows(scores, keep)
    assert chosen.shape == (2, 3, keep)
    for clip in range(2):
        for expert in range(3):
            row = scores[clip, expert].tolist()
            best = sorted(range(total), key=lambda p: -row[p])[:keep]
            assert chosen[clip, expert].tolist() == sorted(best)


@pytest.mark.parametrize("total", [5, 64, 1000])
def test_equal_windows_are_taken_from_the_start(total):
    scores = torch.zeros(2, 3, total)
    scores[:, :, 4] = 1.0
    assert choose_windows(scores, 3).tolist() == [[[0, 1, 4]] * 3] * 2


def test_keeping_every_window_names_the_whole_map():
    chosen = choose_windows(noise(2, 3, 7), windows_kept(7, 1.0))
    assert chosen.tolist() == [[list(range(7))] * 3] * 2


def test_masks_mark_the_rows_that_are_seen():
    assert band_masks([(0, 4), (6, 8)], 8).tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize(
    ("columns", "frames", "edges"),
    [
        (11, 41, [0.0, 0.075, 0.155, 0.235, 0.315, 0.395, 0.405]),
        (2, 8, [0.0, 0.075]),
        (1, 1, [0.0, 0.005]),
    ],
)
def test_edges_lie_half_a_frame_before_the_first_frame_of_a_window(columns, frames, edges):
    assert window_edges_s(columns, 2, frames, 0.01) == pytest.approx(edges)


def test_runs_of_windows_lie_where_their_sum_is_largest():
    scores = torch.tensor([[0.0, 4.0, 1.0, 3.0, 3.0, 0.0], [5.0, 5.0, 0.0, 0.0, 0.0, 1.0]])
    assert choose_runs(scores, 2, 1).tolist() == [[3, 4], [0, 1]]
    assert choose_runs(scores, 2, 2).tolist() == [[1, 2, 3, 4], [0, 1, 4, 5]]


def test_a_run_that_no_longer_fits_is_the_first_again():
    scores = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    assert choose_runs(scores, 3, 2).tolist() == [[2, 2, 3, 3, 4, 4]]


def best_runs(row, width, count):
    """Windows of the best runs by trying every start, the first again where no more fits."""
    free, runs = set(range(len(row) - width + 1)), []
    for _ in range(count):
        best = max(sorted(free), key=lambda at: sum(row[at : at + width]), default=runs and runs[0])
        runs.append(best)
        free -= set(range(best - width + 1, best + width))
    return sorted(at + step for at in runs for step in range(width))


@pytest.mark.parametrize(("width", "count"), [(1, 3), (2, 2), (3, 2), (2, 4), (9, 1)])
def test_runs_equal_a_slow_search(width, count):
    scores = noise(3, 2, 10, seed=width)
    chosen = choose_runs(scores, width, count)
    assert chosen.shape == (3, 2, width * count)
    for clip in range(3):
        for expert in range(2):
            row = scores[clip, expert].tolist()
            assert chosen[clip, expert].tolist() == best_runs(row, width, count)


def test_runs_that_fill_the_segment_are_all_of_it():
    assert choose_runs(torch.tensor([[0.0, 5.0, 5.0, 0.0]]), 2, 2).tolist() == [[0, 1, 2, 3]]


def test_as_long_as_the_segment_runs_are_all_of_it():
    assert choose_runs(torch.rand(2, 3, 5), 3, 2).tolist() == [[[0, 1, 2, 3, 4]] * 3] * 2
