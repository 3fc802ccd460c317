"""The picture has its panels, axes with units, and survives odd data sets."""

import pytest

from xmoe.base.errors import StorageError
from xmoe.profile.assemble import ProfileResult, merge_stats
from xmoe.profile.draw import draw_profile, render_profile


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


@pytest.mark.parametrize("whole", [True, False])
def test_png_is_written_with_the_same_bytes_again(make_rows, tmp_path, whole):
    profile = merge_stats(make_rows(6))
    drawn = ProfileResult(profile, (), ()) if whole else profile
    first = draw_profile(drawn, tmp_path / "new" / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert draw_profile(drawn, tmp_path / "b.png").read_bytes() == first


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
def test_odd_sets_are_drawn(make_rows, tmp_path, fields):
    rows = make_rows(3, change=lambda i, label: fields)
    assert draw_profile(merge_stats(rows), tmp_path / "a.png").stat().st_size > 10_000


def test_folder_that_cannot_be_written_is_a_storage_error(make_rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        draw_profile(merge_stats(make_rows(3)), tmp_path / "file" / "a.png")
