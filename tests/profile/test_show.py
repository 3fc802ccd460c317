"""The printed profile says what a person needs, and never trips over odd names."""

import io

import pytest
from rich.console import Console

from xmoe.audio.quarantine import Quarantined
from xmoe.profile.assemble import merge_stats
from xmoe.profile.show import MOST_CLASSES, format_duration, print_profile


def printed(profile, width=120):
    stream = io.StringIO()
    print_profile(profile, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (42.0, "42.0 s"), (1314.0, "21.9 min"), (11_160.0, "3.1 h")],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_facts_are_there(make_rows):
    rows = make_rows(60, change=lambda i, label: {"band_limit_hz": 4000.0 if i < 30 else None})
    text = printed(merge_stats(rows, quarantined=[Quarantined("a.wav", "empty", "r", "m")]))
    for words in (
        "60 (60.0 s), 1 quarantined",
        "16 kHz x 60",
        "100 Hz to 7 kHz (Nyquist 8 kHz)",
        "50% of recordings, at 4 kHz",
        "40.0 dB",
        "2 classes",
        "1 of 61 recordings cannot be used",
    ):
        assert words in text


def test_lossy_files_have_no_bit_depth(make_rows):
    text = printed(merge_stats(make_rows(60, change=lambda i, label: {"bit_depth": 0})))
    assert "lossy x 60" in text
    assert "No warnings." in text


def test_names_with_brackets_are_printed_as_they_are(make_rows):
    text = printed(merge_stats(make_rows(60, labels=("[bold]x", "[/red]"))))
    assert "[bold]x" in text
    assert "[/red]" in text


def test_classes_are_in_natural_order_and_many_are_cut(make_rows):
    labels = [str(index) for index in range(MOST_CLASSES + 5)]
    text = printed(merge_stats(make_rows(len(labels) * 2, labels=labels)))
    assert text.index("\n9 ") < text.index("\n10 ")
    assert "and 5 more" in text


def test_silent_and_unlabelled_sets_are_printed(make_rows):
    silent = {"fmin_eff_hz": None, "fmax_eff_hz": None}
    assert "silent" in printed(merge_stats(make_rows(4, change=lambda i, label: silent)))
    unlabelled = merge_stats(make_rows(4, change=lambda i, label: {"labels": ()}))
    assert "0 classes" in printed(unlabelled)


def test_leakage_not_measured_gives_the_reason(make_rows):
    assert "Format leakage not measured" in printed(merge_stats(make_rows(2)))
