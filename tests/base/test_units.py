"""Units: known values, inverses, and numbers as people read them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.base.units import (
    edges_between,
    format_hz,
    hz_to_mel,
    mel_to_hz,
    power_to_db,
)


def test_decibels_of_known_powers():
    assert power_to_db([1.0, 10.0, 100.0, 0.5]).tolist() == pytest.approx(
        [0.0, 10.0, 20.0, -3.0103], abs=1e-4
    )


def test_silence_lies_on_the_floor():
    assert power_to_db([0.0, 1e-30]).tolist() == pytest.approx([-120.0, -120.0])
    assert power_to_db([0.0, 1e-5], floor_db=-40.0).tolist() == pytest.approx([-40.0, -40.0])


@given(st.floats(-110.0, 110.0))
def test_decibels_are_the_inverse_of_powers_of_ten(level_db):
    assert float(power_to_db(10.0 ** (level_db / 10.0))) == pytest.approx(level_db, abs=1e-9)


def test_known_mels():
    assert hz_to_mel([0.0, 700.0, 1000.0, 6300.0]).tolist() == pytest.approx(
        [0.0, 781.1728, 999.9855, 2595.0], abs=1e-3
    )


@given(st.floats(0.0, 192_000.0))
def test_hertz_and_mels_are_inverse(frequency_hz):
    assert float(mel_to_hz(hz_to_mel(frequency_hz))) == pytest.approx(frequency_hz, abs=1e-6)


@pytest.mark.parametrize("convert", [power_to_db, hz_to_mel, mel_to_hz])
def test_conversions_rise_and_keep_the_shape(convert):
    values = np.linspace(0.1, 90.0, 24).reshape(4, 6)
    converted = convert(values)
    assert converted.shape == (4, 6)
    assert converted.dtype == np.float64
    assert (np.diff(converted.ravel()) > 0).all()


@pytest.mark.parametrize(
    ("frequency_hz", "text"),
    [
        (0.0, "0 Hz"),
        (850.4, "850 Hz"),
        (999.4, "999 Hz"),
        (999.7, "1 kHz"),
        (1000.0, "1 kHz"),
        (12500.0, "12.5 kHz"),
        (22050.0, "22.05 kHz"),
        (192000.0, "192 kHz"),
    ],
)
def test_frequencies_read_as_people_write_them(frequency_hz, text):
    assert format_hz(frequency_hz) == text


def test_edges_lie_halfway_and_never_below_zero():
    assert edges_between(np.array([10.0, 40.0, 100.0])).tolist() == [0.0, 25.0, 70.0, 130.0]
