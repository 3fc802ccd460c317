"""The overview puts sound where it was, whatever it is reduced to."""

import numpy as np

from xmoe.annotate.answers import answer_blocks
from xmoe.annotate.overview import Overview
from xmoe.audio.segment import Grid


def overview_of(predictor, samples, hop_s, most=8192):
    grid = Grid.of(8000, segment_s=0.4, hop_s=hop_s)
    overview = Overview(predictor.config.spectro, grid, most=most)
    for group in answer_blocks(predictor, [samples], grid, threads=1):
        overview.add(group)
    return overview


def test_a_tone_is_seen_when_and_where_it_sounds(predictor):
    samples = 0.001 * np.random.default_rng(0).standard_normal(8 * 8000).astype(np.float32)
    second = np.arange(8000) / 8000
    samples[3 * 8000 : 4 * 8000] += (0.3 * np.sin(2 * np.pi * 1000 * second)).astype(np.float32)
    for most in (8192, 32):
        overview = overview_of(predictor, samples, 0.1, most)
        level = overview.level_db()
        assert level.shape[1] <= 2 * most
        assert abs(level.shape[1] * overview.column_s - 8.0) <= 2 * overview.column_s
        loud = np.flatnonzero(level.max(0) > level.max() - 6) * overview.column_s
        assert abs(loud[0] - 3.0) <= 0.4
        assert abs(loud[-1] - 4.0) <= 0.4
        row = int(level[:, level.max(0).argmax()].argmax())
        assert abs(float(predictor.frontend.bin_centers_hz[row]) - 1000) < 200


def test_silence_has_a_floor(predictor):
    level = overview_of(predictor, np.zeros(8000, np.float32), 0.4).level_db()
    assert np.isfinite(level).all()
