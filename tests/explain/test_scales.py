"""Hz and seconds at the edges of cells, rows and windows."""

import numpy as np
import pytest

from xmoe.base.config import SpectroConfig
from xmoe.base.units import edges_between
from xmoe.explain.reasons import find_reasons
from xmoe.explain.scales import Scales, describe_map, scales_of
from xmoe.frontend.registry import build_frontend


def simple_scales(frames=20):
    """Eight bins 100 Hz apart from 100 Hz, frames of 0.01 s."""
    centers = np.arange(1, 9) * 100.0
    times = np.arange(frames) * 0.01
    edges = np.append(times - 0.005, times[-1] + 0.005)
    return Scales(centers, edges_between(centers), times, edges)


def test_a_band_in_hertz_lies_between_the_bins_that_bound_it():
    assert simple_scales().bins_of((50.0, 450.0)) == (-0.5, 3.5)
    assert simple_scales().bins_of((450.0, 850.0)) == (3.5, 7.5)
    assert simple_scales().bins_of((0.0, 9000.0)) == (-0.5, 7.5)


def test_neighbouring_spans_become_one_on_the_recordings_clock():
    scales = simple_scales(40)
    spans = scales.merge_spans([(0.0, 0.08), (0.08, 0.16), (0.24, 0.32)])
    assert spans == [pytest.approx((-0.005, 0.155)), pytest.approx((0.235, 0.315))]


@pytest.mark.parametrize("name", ["logmel", "stft", "cqt"])
def test_ticks_stand_at_the_bins_of_their_frequency(name):
    config = SpectroConfig(frontend=name, fmin_hz=50.0)
    scales = scales_of(build_frontend(config), 10)
    ticks = scales.hz_ticks()
    assert 3 <= len(ticks) <= 9
    for place, hertz in ticks:
        bin_index = int(np.abs(scales.bin_centers_hz - hertz).argmin())
        assert abs(place - bin_index) < 1.0
        assert f"{hertz:g}".rstrip("0") in {"1", "2", "3", "4", "5", "6", "8"}


def test_a_segment_that_begins_later_has_later_frames():
    scales = scales_of(build_frontend(SpectroConfig()), 101, (2.0, 3.0))
    assert scales.frame_times_s[50] == pytest.approx(2.5)
    assert scales.frame_edges_s[[0, -1]].tolist() == pytest.approx([2.0, 3.005])


def test_a_planted_map_is_placed_in_hz_and_seconds(subject, specs):
    reasons = find_reasons(subject, specs[0])
    values = np.zeros((32, 41))
    values[9, 24] = 5.0
    place = describe_map(values, reasons.scales)
    center = subject.frontend.bin_centers_hz[9].item()
    assert place["peak"] == {
        "time_s": pytest.approx(0.24),
        "frequency_hz": pytest.approx(center),
    }
    assert place["span_s"] == pytest.approx([0.2355, 0.2445])
    assert place["band_hz"][0] < center < place["band_hz"][1]
    assert place["half"]["span_s"] == pytest.approx([0.2375, 0.2425])
    assert place["band_hz"][0] < place["half"]["band_hz"][0] < center


def test_a_zero_map_has_no_place(subject, specs):
    reasons = find_reasons(subject, specs[0])
    assert describe_map(np.zeros((32, 41)), reasons.scales) == {}
