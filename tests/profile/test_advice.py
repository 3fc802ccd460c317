"""Each warning appears when its cause does, and a clean set is left alone."""

import pytest

from xmoe.audio.quarantine import Quarantined
from xmoe.profile.assemble import merge_stats


def half(index):
    """True for every second clip of each of two classes."""
    return index % 4 > 1


def test_clean_set_has_no_warning(make_rows):
    assert merge_stats(make_rows(60)).warnings == ()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("Mixed sample rates (30 at 8 kHz, 30 at 16 kHz)", {"sample_rate_hz": 8000}),
        ("50% of the recordings hold nothing above a codec", {"band_limit_hz": 4000.0}),
        ("(median 4 kHz)", {"band_limit_hz": 4000.0}),
        ("50% of the recordings are clipped", {"clipping_rate": 0.01}),
        ("30 recordings are silent or nearly so", {"rms_db": -80.0}),
        ("30 recordings are silent or nearly so", {"silence_rate": 1.0}),
        ("29 clips repeat the exact content", {"content_sha256": "same"}),
    ],
)
def test_fault_of_half_the_clips_is_the_only_warning(make_rows, words, fields):
    rows = make_rows(60, change=lambda i, label: fields if half(i) else {})
    warnings = merge_stats(rows).warnings
    assert len(warnings) == 1
    assert words in warnings[0]


def test_leak_names_the_strongest_feature_and_the_numbers(make_rows):
    rows = make_rows(60, change=lambda i, label: {"rms_db": -20.0 if label == "x" else -30.0})
    (warning,) = merge_stats(rows).warnings
    assert warning.startswith("Format leakage: without listening, level (RMS) alone")
    assert "100% (chance 50%)" in warning
    assert "`group` column" in warning


def test_quarantined_files_are_counted_by_code(make_rows):
    bad = [Quarantined(f"{i}.wav", "empty" if i else "truncated", "r", "m") for i in range(3)]
    (warning,) = merge_stats(make_rows(60), quarantined=bad).warnings
    assert warning.startswith("3 of 63 recordings cannot be used (empty 2, truncated 1)")


def test_sizes_of_classes(make_rows):
    rows = make_rows(60, labels=("x",) * 9 + ("rare",))
    text = " ".join(merge_stats(rows).warnings)
    assert "1 class has fewer than 10 clips (rare 6)" in text
    assert "x has 9 times as many clips as rare" in text


def test_little_data(make_rows):
    text = " ".join(merge_stats(make_rows(8)).warnings)
    assert "8 clips for 2 classes is little" in text


def test_one_class(make_rows):
    text = " ".join(merge_stats(make_rows(60, labels=("x",))).warnings)
    assert "fewer than two classes" in text


def test_class_without_training_clips(make_rows):
    rows = make_rows(
        60, change=lambda i, label: {"split": "test" if label == "y" or i % 4 == 0 else "train"}
    )
    text = " ".join(merge_stats(rows).warnings)
    assert "no train clip of y" in text
