"""Spans of a segment as an expert is sent them: within the sound, in one piece where they meet."""

import numpy as np
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.experts.protocol import Inputs
from xmoe.experts.sound import cut_spans, merge_spans, pack_sound, unpack_sound

RATE_HZ = 8000


def test_spans_end_with_the_clip_and_hold_at_least_a_sample():
    samples = np.zeros(RATE_HZ, np.float32)
    parts = cut_spans(samples, RATE_HZ, [(0.9, 5.0), (0.5, 0.5), (3.0, 4.0)])
    assert [len(part) for part in parts] == [800, 1, 1]


def test_neighbouring_spans_are_one_piece():
    assert merge_spans([(0.0, 0.1), (0.1000001, 0.2), (0.3, 0.4)]) == [(0.0, 0.2), (0.3, 0.4)]
    assert merge_spans([(0.0, 0.1)]) == [(0.0, 0.1)]


def test_a_span_that_is_said_twice_is_sent_once():
    assert merge_spans([(0.0, 0.1), (0.2, 0.3), (0.2, 0.3)]) == [(0.0, 0.1), (0.2, 0.3)]


def test_what_is_packed_is_what_is_unpacked():
    samples = np.arange(RATE_HZ, dtype=np.float32) / 32768
    sound = hold_sound([Segment(samples, RATE_HZ, 0), Segment(samples[:4000], RATE_HZ, 0)])
    inputs = Inputs(torch.zeros(2, 0, 4, 1), torch.ones(2), 0.04, 2, sound)
    spans = torch.tensor([[[0.0, 0.1], [0.5, 0.6]], [[0.1, 0.2], [0.2, 0.4]]])
    (first, rate_hz), (second, _) = unpack_sound(pack_sound("one", inputs, torch.arange(2), spans))
    assert rate_hz == RATE_HZ
    assert [len(piece) for piece in first] == [800, 800]
    assert [len(piece) for piece in second] == [2400]
    np.testing.assert_allclose(first[1], samples[4000:4800], atol=1e-4)
