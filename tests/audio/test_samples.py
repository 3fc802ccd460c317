"""Samples of every kind become the same mono floats, or are refused in words."""

import numpy as np
import pytest
import torch

from xmoe.audio.samples import check_samples
from xmoe.base.errors import InputError

RATE_HZ = 8000
GOOD = np.linspace(-0.5, 0.5, 800)


@pytest.mark.parametrize(
    ("samples", "rate", "what"),
    [
        (GOOD, None, "rate of None"),
        (GOOD, 0, "rate of 0"),
        (GOOD, 400_000, "rate of 400000"),
        (GOOD[:50], RATE_HZ, "50 samples are too few"),
        (np.zeros(0), RATE_HZ, "0 samples"),
        (np.zeros((2, 0)), RATE_HZ, "0 samples"),
        (GOOD.reshape(2, 4, 100), RATE_HZ, "shape"),
        (GOOD.astype(int), RATE_HZ, "int64"),
        (np.ones((800, 20)), RATE_HZ, "20 channels"),
        (np.ones(800, bool), RATE_HZ, "bool"),
        (np.array(["a"] * 800), RATE_HZ, "<U1"),
        (["a.wav", "b.wav"], RATE_HZ, "predict_proba"),
        ([[0.0, 1.0], [0.0]], RATE_HZ, "different lengths"),
        (np.full(800, np.nan), RATE_HZ, "not finite"),
        (np.append(GOOD, np.inf), RATE_HZ, "not finite"),
        (np.full(800, 1e300), RATE_HZ, "not finite"),
        (np.array(0.5), RATE_HZ, "shape"),
        (np.zeros((0, 800)), RATE_HZ, "0 samples are too few"),
        (np.full(800, 1e25), RATE_HZ, "a sample of 1e\\+25"),
    ],
)
def test_samples_that_are_no_recording_are_refused(samples, rate, what):
    with pytest.raises(InputError, match=what):
        check_samples(samples, rate)


def test_good_samples_become_float32_in_one_channel():
    mixed = check_samples(np.stack([GOOD, -GOOD]), RATE_HZ).samples
    assert mixed.dtype == np.float32
    assert mixed.tolist() == [0.0] * 800
    assert np.array_equal(check_samples(GOOD, RATE_HZ).samples, GOOD.astype(np.float32))


@pytest.mark.parametrize(
    "made",
    [
        GOOD.tolist(),
        torch.from_numpy(GOOD),
        torch.from_numpy(GOOD).requires_grad_(),
        np.stack([GOOD, GOOD]),
        np.stack([GOOD, GOOD], 1),
        np.stack([GOOD * 1.5, GOOD * 0.5], 1),
        GOOD[np.newaxis],
        GOOD[:, np.newaxis],
        np.asfortranarray(np.stack([GOOD, GOOD])),
        np.repeat(GOOD, 2)[::2],
    ],
)
def test_one_recording_in_many_forms_is_the_same(made):
    assert check_samples(made, RATE_HZ).samples == pytest.approx(GOOD, abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(np.uint8, 1 / 128), (np.int16, 2.0**-15), (np.int32, 1e-7)]
)
def test_integers_are_pcm(kind, tolerance):
    full = 2.0 ** (np.dtype(kind).itemsize * 8 - 1)
    coded = np.floor(GOOD * full) + (full if kind is np.uint8 else 0)
    for made in (coded.astype(kind), torch.from_numpy(coded.astype(kind))):
        assert check_samples(made, RATE_HZ).samples == pytest.approx(GOOD, abs=tolerance)


def test_half_precision_of_torch_is_read():
    made = torch.from_numpy(GOOD).to(torch.bfloat16)
    assert check_samples(made, RATE_HZ).samples == pytest.approx(GOOD, abs=2e-3)


@pytest.mark.parametrize(
    ("made", "share"),
    [
        (np.sign(GOOD), 1.0),
        (np.stack([np.sign(GOOD), GOOD], 1), 0.5),
        (np.where(GOOD < 0, 0, 32767).astype(np.int16), 0.5),
        (GOOD * 2, 0.0),
    ],
)
def test_clipping_is_counted_before_channels_are_mixed(made, share):
    assert check_samples(made, RATE_HZ).clipped_rate == pytest.approx(share)


@pytest.mark.parametrize(
    ("audio", "rate_hz", "words"),
    [
        (["a.wav", "b.wav"], None, "a list of 2 is not one recording"),
        ((np.zeros(8000), 8000), None, "a tuple of 2 is not one recording"),
        (np.zeros(8000), "8000", "a rate is a number of Hz, not '8000'"),
    ],
)
def test_what_people_give_instead_is_told_from_a_recording(audio, rate_hz, words):
    with pytest.raises(InputError, match=words):
        check_samples(audio, rate_hz)
