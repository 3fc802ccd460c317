"""Facts beside the sound: GUANO, AudioMoth's sentence in every firmware, and dates in names."""

import io
import struct

import pytest

from tests.audio.conftest import encode, tone, wav_bytes
from xmoe.audio.field_notes import NOTHING_KNOWN, FieldNotes, read_field_notes

GUANO = """GUANO|Version: 1.0
Make: Titley Scientific
Model: Anabat Swift
Serial: 1234
Timestamp: 2024-06-21T22:04:05-07:00
Loc Position: 47.05 -122.5
Temperature Int: 21.5
Temperature Ext: 14.25
TE: 8
Note: a colon: inside
"""
SERIAL = "24F319025D320451"


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def comment(text: str) -> bytes:
    info = b"INFO" + chunk(b"IART", b"AudioMoth") + chunk(b"ICMT", text.encode() + b"\0")
    return chunk(b"LIST", info)


def read(extra: bytes = b"", name: str = "a.wav") -> FieldNotes:
    return read_field_notes(io.BytesIO(wav_bytes() + extra), name=name)


def test_guano_is_read():
    assert read(chunk(b"guan", GUANO.encode())) == FieldNotes(
        recorded_at="2024-06-21T22:04:05-07:00",
        recorder="Titley Scientific Anabat Swift 1234",
        temperature_c=14.25,
        latitude=47.05,
        longitude=-122.5,
        time_expansion=8.0,
    )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (
            f"Recorded at 01:30:00 15/05/2021 (UTC) by AudioMoth {SERIAL} at medium gain setting "
            "while battery state was 4.6V and temperature was 17.7C.",
            ("2021-05-15T01:30:00+00:00", f"AudioMoth {SERIAL}", "medium", 17.7, 4.6),
        ),
        (
            f"Recorded at 10:00:00 28/05/2024 (UTC+5:30) by AudioMoth {SERIAL} at low-medium gain "
            "while battery was greater than 4.9V and temperature was -3.2C.",
            ("2024-05-28T10:00:00+05:30", f"AudioMoth {SERIAL}", "low-medium", -3.2, 4.9),
        ),
        (
            f"Recorded at 19:17:30 10/12/2018 (UTC-3) by AudioMoth {SERIAL} at gain setting 2 "
            "while battery state was 3.9V",
            ("2018-12-10T19:17:30-03:00", f"AudioMoth {SERIAL}", "2", None, 3.9),
        ),
        (
            f"Recorded at 02:00:00 01/02/2023 (UTC) during deployment {SERIAL} at high gain while "
            "battery was less than 2.5V and temperature was 5.0C. Recording stopped early.",
            ("2023-02-01T02:00:00+00:00", f"deployment {SERIAL}", "high", 5.0, 2.5),
        ),
        ("made with a phone", (None, None, None, None, None)),
        ("Recorded at 99:00:00 15/05/2021 (UTC) by nobody", (None, None, None, None, None)),
    ],
)
def test_audiomoth_is_read_whatever_its_firmware(text, known):
    found = read(comment(text))
    facts = (found.recorded_at, found.recorder, found.gain, found.temperature_c, found.battery_v)
    assert facts == known


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("20240501_053000.WAV", "2024-05-01T05:30:00"),
        ("site/SM4-01_20240501_053000_part.wav", "2024-05-01T05:30:00"),
        ("20240501T053000.flac", "2024-05-01T05:30:00"),
        ("20241399_053000.wav", None),
        ("1202405010530001.wav", None),
    ],
)
def test_a_date_in_the_name_is_the_recorders_own_time(name, moment):
    assert read(name=name).recorded_at == moment


def test_what_the_recorder_wrote_inside_says_more_than_the_name():
    found = read(chunk(b"guan", GUANO.encode()), name="20200101_000000.wav")
    assert found.recorded_at == "2024-06-21T22:04:05-07:00"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"nonsense" * 9,
        encode(tone(), kind="FLAC/PCM_16"),
        wav_bytes()
        + b"guan\xff\xff\xff\xff"
        + b"TE: nan\nTemperature Int: x\nLoc Position: here\n",
        wav_bytes() + b"LIST\x08\x00\x00\x00INFOICMT",
    ],
)
def test_damage_is_nothing_known(data):
    assert read_field_notes(io.BytesIO(data)) == NOTHING_KNOWN


def test_a_clock_time_crosses_midnight():
    notes = FieldNotes(recorded_at="2024-12-31T23:59:59")
    assert notes.clock_time(1.5) == "2025-01-01T00:00:00.500"
    assert NOTHING_KNOWN.clock_time(1.0) is None


def test_a_file_heard_at_the_wrong_speed_is_doubted():
    slow = FieldNotes(time_expansion=10.0)
    assert "slowed down 10 times" in (slow.doubt(1.0) or "")
    assert slow.doubt(10.0) is None
    assert NOTHING_KNOWN.doubt(1.0) is None
