"""PCM of a stream: the same samples for any pieces."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xmoe.serve.http.framing import PcmReader, read_pcm

SAMPLES = np.arange(100, dtype="<i2")


@given(cuts=st.lists(st.integers(0, 201), max_size=12))
def test_samples_do_not_depend_on_the_pieces(cuts):
    raw = SAMPLES.tobytes() + b"\1"
    edges = [0, *sorted(cuts), len(raw)]
    pcm = PcmReader("pcm_s16le")
    found = np.concatenate([pcm.read(raw[a:b]) for a, b in itertools.pairwise(edges)])
    assert found.tolist() == (SAMPLES / 32768).astype(np.float32).tolist()


def test_floats_are_taken_as_they_are():
    values = np.array([0.5, -2.0, np.nan], "<f4")
    found = read_pcm(values.tobytes(), "pcm_f32le")
    assert found.dtype == np.float32
    assert np.array_equal(found, values, equal_nan=True)
