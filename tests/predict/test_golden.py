"""What a run said of made sounds: the same again, and other weights are told."""

import numpy as np
import pytest

from tests.fixtures.closed_runs import write_closed_run
from tests.fixtures.runs import tiny_config, write_run
from xmoe.predict.golden import (
    NUM_SOUNDS,
    answer_sounds,
    largest_difference,
    make_sounds,
    read_golden,
    write_golden,
)
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder


def test_sounds_are_the_same_always_and_fill_the_band():
    spectro = tiny_config().spectro
    sounds = make_sounds(spectro)
    assert len(sounds) == NUM_SOUNDS
    assert all(np.array_equal(a, b) for a, b in zip(sounds, make_sounds(spectro), strict=True))
    assert [len(sound) for sound in sounds] == [4000] * NUM_SOUNDS
    assert sounds[0][:4].tolist() == pytest.approx(
        [-0.030803, 0.029137, 0.113998, 0.14146], abs=1e-4
    )
    peaks = [np.abs(np.fft.rfft(sound)).argmax() * 2.0 for sound in sounds]
    assert len(set(peaks)) == NUM_SOUNDS
    assert spectro.fmin_hz < min(peaks) < max(peaks) < spectro.fmax_hz


@pytest.mark.parametrize("write", [write_run, write_closed_run])
def test_run_says_again_what_it_said(tmp_path, write):
    folder = RunFolder(write(tmp_path / "run"))
    assert read_golden(folder) is None
    write_golden(folder)
    golden = read_golden(folder)
    assert golden.weights_sha256 == folder.fingerprint()
    again = answer_sounds(Predictor.load(folder.path))
    assert largest_difference(again, golden.answers) < 1e-6


def test_other_weights_say_something_else(tmp_path):
    said = [answer_sounds(Predictor.load(write_run(tmp_path / str(s), seed=s))) for s in (0, 1)]
    assert largest_difference(*said) > 0.01


def test_other_classes_or_numbers_are_infinitely_far():
    assert largest_difference([{"a": 1.0}], [{"b": 1.0}]) == float("inf")
    assert largest_difference([], [{"b": 1.0}]) == float("inf")
    assert largest_difference([{"a": 1.0, "b": 0.0}], [{"a": 0.75, "b": 0.25}]) == 0.25
