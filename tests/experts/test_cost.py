"""Milliseconds of an expert: more for more sound, and of a network only its windows."""

import numpy as np

from tests.base.test_backbone import card as make_card
from xmoe.base.config import BackboneSpec, KernelsSpec, SpectroConfig
from xmoe.experts import cost
from xmoe.experts.backbone import BackboneEar


def test_a_longer_clip_costs_more():
    spectro = SpectroConfig(sample_rate_hz=8000, fmax_hz=4000.0, n_fft=256, win_length=200)
    spec = KernelsSpec(name="one", family="broadband", spectro=spectro, kernels=4)
    short, long = (
        cost.measure_ms(spec, sample_rate_hz=8000, duration_s=seconds) for seconds in (0.5, 8.0)
    )
    assert 0.0 < short < long


def test_of_a_network_only_the_windows_that_it_hears_are_counted(monkeypatch):
    asked = []

    def embed(self, windows):
        asked.append(len(windows))
        return np.zeros((len(windows), 1024), np.float32)

    monkeypatch.setattr(BackboneEar, "embed", embed)
    for windows in (None, 1, 2):
        spec = BackboneSpec(name="net", card=make_card(), windows=windows)
        assert cost.measure_ms(spec, sample_rate_hz=48_000, duration_s=9.0) > 0.0
    assert asked[:: len(asked) // 3] == [5, 1, 3]
