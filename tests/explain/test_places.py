"""A map's place in Hz and seconds."""

import numpy as np
import pytest

from xmoe.explain.places import describe_map
from xmoe.explain.reasons import find_reasons


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
