"""The picture has its panels, axes with units, and survives odd data sets."""

import pytest

from xmoe.pictures import to_png
from xmoe.profile.assemble import ProfileResult, merge_stats
from xmoe.profile.draw import render_profile


def test_panels_have_axes_with_units(make_rows):
    rows = make_rows(60, change=lambda i, label: {"band_limit_hz": 4000.0 if i < 30 else None})
    figure = render_profile(merge_stats(rows))
    psd, durations, snr, rates, classes = figure.axes
    assert psd.get_xscale() == "log"
    assert psd.get_ylabel() == "Power density (dB re FS²/Hz)"
    assert durations.get_xlabel() == "Duration (s)"
    assert snr.get_xlabel() == "SNR proxy (dB)"
    assert [axes.get_title() for axes in (rates, classes)] == ["Sample rate", "Class"]
    words = [text.get_text() for text in psd.get_legend().get_texts()]
    assert "effective band 100 Hz - 7 kHz" in words
    assert "codec limit, 50% of recordings" in words


def test_many_classes_are_cut_and_named(make_rows):
    labels = [f"species number {index} of many more" for index in range(40)]
    classes = render_profile(merge_stats(make_rows(80, labels=labels))).axes[-1]
    names = [label.get_text() for label in classes.get_yticklabels()]
    assert names[-1] == "25 more"
    assert max(map(len, names)) <= 22


def test_a_profile_is_drawn_with_the_same_bytes_again(make_rows):
    profile = merge_stats(make_rows(6))
    first = to_png(ProfileResult(profile, (), ()).draw())
    assert first.startswith(b"\x89PNG")
    assert to_png(render_profile(profile)) == first


@pytest.mark.parametrize(
    "fields",
    [
        {"fmin_eff_hz": None, "fmax_eff_hz": None},
        {"labels": ()},
        {"sample_rate_hz": 384_000},
        {"sample_rate_hz": 4000},
        {"labels": ("$x_{",)},
    ],
)
def test_odd_sets_are_drawn(make_rows, fields):
    rows = make_rows(3, change=lambda i, label: fields)
    assert len(to_png(render_profile(merge_stats(rows)))) > 10_000
