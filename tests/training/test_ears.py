"""What heads are fitted to: rows of all windows, and which of them count."""

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import RATE_HZ, SIZE, tiny_backbone
from xmoe.base.config import BackboneSpec, KernelsSpec, SpectroConfig
from xmoe.experts.kernels import KernelsEar
from xmoe.training.ears import StemSpec, build_ear, pool_windows, rank_windows, seen_by

SPECTRO = SpectroConfig(sample_rate_hz=8000, fmax_hz=4000.0, n_fft=256, win_length=200)
SPANS = np.array([(0.0, 0.5), (0.25, 0.75), (0.5, 1.0)])
ALL_THERE = torch.zeros(1, 3, dtype=torch.bool)


@pytest.fixture
def spec(tmp_path):
    return BackboneSpec(name="tiny", card=tiny_backbone(tmp_path), folder=str(tmp_path))


def noise(seconds):
    return np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)).astype(np.float32)


def test_a_row_holds_every_window_and_says_which_are_not_there(spec):
    ear = build_ear(spec, 0.2)
    assert ear.num_features == 3 * SIZE
    whole = ear.measure(noise(0.2), RATE_HZ)
    assert np.isfinite(whole).all()
    short = ear.measure(noise(0.1), RATE_HZ).reshape(3, SIZE)
    assert np.isnan(short[1:]).all()
    np.testing.assert_allclose(short[0], whole[:SIZE], rtol=1e-5)


def test_all_windows_or_the_salient_ones_are_pooled(spec):
    rows = np.arange(3 * SIZE, dtype=np.float32)[None]
    pooled = pool_windows(spec, rows, 0.2, None)
    # The middle window's numbers, then the last one's, and all of it of unit length.
    assert pooled[0, 0] / pooled[0, SIZE] == pytest.approx(SIZE / (2 * SIZE))
    assert np.linalg.norm(pooled) == pytest.approx(1.0)
    one = spec.model_copy(update={"windows": 1})
    focus = np.array([[0.0, 0.0, 0.0, 5.0]], np.float32)
    last = np.arange(2 * SIZE, 3 * SIZE)
    expected = np.tile(last, 2) / (np.sqrt(2.0) * np.linalg.norm(last))
    np.testing.assert_allclose(pool_windows(one, rows, 0.2, focus)[0], expected, rtol=1e-5)


def test_windows_that_meet_are_not_both_taken():
    focus = np.array([[0.0, 3.0, 3.0, 1.0]], np.float32)
    assert rank_windows(ALL_THERE, SPANS, focus, 1).tolist() == [[False, True, False]]
    assert rank_windows(ALL_THERE, SPANS, focus, 2).tolist() == [[False, True, False]]
    late = np.array([[0.0, 1.0, 3.0, 3.0]], np.float32)
    assert rank_windows(ALL_THERE, SPANS, late, 2).tolist() == [[True, False, True]]


def test_what_is_not_there_is_not_taken():
    missing = torch.tensor([[False, True, True]])
    focus = np.array([[0.0, 0.0, 1.0, 9.0]], np.float32)
    assert rank_windows(missing, SPANS, focus, 2).tolist() == [[True, False, False]]


def test_specs_that_measure_the_same_share_their_features(spec):
    one = spec.model_copy(update={"name": "other", "windows": 1, "folder": ""})
    assert seen_by(one) == seen_by(spec)
    slow = spec.card.model_copy(update={"speed_factor": 2.0})
    assert seen_by(spec.model_copy(update={"card": slow})) != seen_by(spec)
    assert seen_by(StemSpec(spectro=SPECTRO))[0] == "stem"


def test_kernels_are_measured_by_their_own_ear():
    spec = KernelsSpec(name="one", family="broadband", spectro=SPECTRO, kernels=2)
    sound = noise(0.4)
    expected = KernelsEar(spec).measure(sound, RATE_HZ)
    np.testing.assert_array_equal(build_ear(spec, 1.0).measure(sound, RATE_HZ), expected)
