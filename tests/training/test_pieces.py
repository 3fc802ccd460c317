"""Segments that heads are fitted on: no more than are enough, and copies that repeat."""

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import Example
from xmoe.training.pieces import copy_pieces, cut_training, seed_of, spread

RATE_HZ = 8000


@pytest.fixture
def clip(rng, tmp_path):
    sf.write(tmp_path / "clip.wav", 0.1 * rng.standard_normal(3800), RATE_HZ, subtype="PCM_16")
    return read_clip(tmp_path / "clip.wav")


def test_copies_are_quieter_parts_or_noisier_and_repeat(clip):
    whole = cut_training(clip, 0.1)
    part, noisy = (copy_pieces(whole, copy, 5) for copy in ("part", "noisy"))
    assert copy_pieces(whole, "whole", 5) == whole
    assert [len(one) for one in noisy] == [len(one) for one in whole]
    for full, loudest, other in zip(whole, part, noisy, strict=True):
        assert 0.1 * len(full) < len(loudest) < 0.55 * len(full)
        assert not np.allclose(other, full)
    again = copy_pieces(whole, "noisy", 5)
    assert all((one == other).all() for one, other in zip(again, noisy, strict=True))


@pytest.mark.parametrize(("copy", "tenths"), [("slow", 9), ("fast", 11)])
def test_a_copy_at_another_speed_has_another_pitch_and_length(copy, tenths):
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    (heard,) = copy_pieces([tone], copy, 5)
    assert len(heard) == pytest.approx(10 * RATE_HZ / tenths, abs=1)
    peak = np.abs(np.fft.rfft(heard)).argmax() * RATE_HZ / len(heard)
    assert peak == pytest.approx(50 * tenths, abs=1)


def test_of_a_long_recording_eight_segments_are_enough(clip):
    pieces = cut_training(clip, 0.01)
    assert len(pieces) == 8
    assert (pieces[0] == clip.samples[:80]).all()
    assert (pieces[-1] == clip.samples[-80:]).all()


def test_the_seed_of_a_clip_is_its_name_s():
    one, other = Example("a.wav", "train", ("x",)), Example("a.wav", "val", ("y",), row=7)
    assert seed_of(one) == seed_of(other) != seed_of(Example("b.wav", "train", ("x",)))


def test_some_clips_are_drawn_by_seed_in_their_order():
    known = [Example(f"{index}.wav", "train", ("a",)) for index in range(40)]
    drawn = spread(known, 10, 3)
    assert drawn == spread(known, 10, 3) != spread(known, 10, 4)
    assert [known.index(one) for one in drawn] == sorted(known.index(one) for one in drawn)
    assert spread(known, len(known), 0) == known
