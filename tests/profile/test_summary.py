"""The numbers of a profile from rows made by hand."""

from dataclasses import replace

import pytest

from xmoe.profile.summary import HISTOGRAM_BINS, rounded, summarise


def test_counts(make_rows):
    def change(index, label):
        rate = 8000 if index < 3 else 44_100
        return {"sample_rate_hz": rate, "split": "test" if index == 0 else "train"}

    summary = summarise(make_rows(10, labels=("x", "x", "y"), change=change))
    assert summary["num_clips"] == 10
    assert summary["total_duration_s"] == 10.0
    assert summary["fs_mode_hz"] == 44_100
    assert summary["fs_unique"] == {8000: 3, 44_100: 7}
    assert summary["splits"] == {"test": 1, "train": 9}
    assert {name: own["count"] for name, own in summary["classes"].items()} == {"x": 7, "y": 3}
    assert summary["imbalance"] == pytest.approx(7 / 3)
    assert summary["num_duplicates"] == 0


def test_repeated_content_is_counted(make_rows):
    rows = make_rows(6, change=lambda i, label: {"content_sha256": str(i // 3)})
    assert summarise(rows)["num_duplicates"] == 4


def test_quantiles_of_known_values(make_rows):
    rows = make_rows(101, change=lambda i, label: {"snr_db": float(i)})
    snr = summarise(rows)["quantiles"]["snr_db"]
    assert snr == {"min": 0, "p05": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "max": 100}


def test_band_spans_the_bulk_but_keeps_a_small_high_class(make_rows):
    def change(index, label):
        if label == "bat":
            return {"fmin_eff_hz": 20_000.0, "fmax_eff_hz": 60_000.0}
        return {"fmin_eff_hz": 100.0, "fmax_eff_hz": 4000.0}

    rows = make_rows(100, labels=("x",) * 49 + ("bat",), change=change)
    summary = summarise(rows)
    assert (summary["fmin_eff_hz"], summary["fmax_eff_hz"]) == (100.0, 60_000.0)


def test_one_odd_recording_does_not_stretch_the_band(make_rows):
    rows = make_rows(100, change=lambda i, label: {"fmax_eff_hz": 7900.0 if i == 0 else 4000.0})
    assert summarise(rows)["fmax_eff_hz"] == 4000.0


def test_silent_clips_have_no_say_in_the_band(plain, make_rows):
    silent = replace(
        plain, clip_id="z", fmin_eff_hz=None, fmax_eff_hz=None, silence_rate=1.0, psd_db=(0.0, 0.0)
    )
    summary = summarise([*make_rows(4), silent])
    assert (summary["fmin_eff_hz"], summary["fmax_eff_hz"]) == (100.0, 7000.0)
    assert summary["near_silent_fraction"] == 0.2
    assert summary["psd"]["p90_db"] == pytest.approx([-60.0, -70.0])


def test_all_silent_gives_the_whole_band_and_no_spectrum(plain):
    summary = summarise([replace(plain, fmin_eff_hz=None, fmax_eff_hz=None)])
    assert (summary["fmin_eff_hz"], summary["fmax_eff_hz"]) == (0.0, 8000.0)
    assert summary["psd"]["frequency_hz"] == []
    assert "fmax_eff_hz" not in summary["quantiles"]


def test_spectrum_of_mixed_rates_uses_the_clips_that_reach_a_band(make_rows):
    rows = make_rows(
        4, change=lambda i, label: {"psd_db": (-10.0 * i, -5.0) if i < 3 else (-30.0,)}
    )
    psd = summarise(rows)["psd"]
    assert psd["frequency_hz"] == pytest.approx([20.0, 20 * 2 ** (1 / 6)])
    assert psd["p50_db"] == pytest.approx([-15.0, -5.0])


def test_band_limited_fraction_and_its_median(make_rows):
    rows = make_rows(10, change=lambda i, label: {"band_limit_hz": 3000.0 + i if i < 3 else None})
    summary = summarise(rows)
    assert summary["band_limited_fraction"] == 0.3
    assert summary["band_limit_hz"] == 3001.0


def test_histograms_count_every_clip_even_when_all_are_equal(make_rows):
    for spread in (0.0, 1.0):
        rows = make_rows(9, change=lambda i, label, s=spread: {"duration_s": 3.0 + i * s})
        histogram = summarise(rows)["histograms"]["duration_s"]
        assert sum(histogram["counts"]) == 9
        assert len(histogram["counts"]) == HISTOGRAM_BINS == len(histogram["edges"]) - 1


def test_rounding_keeps_six_digits_everywhere():
    assert rounded({"a": [1 / 3, (2 / 3,)], "b": 12345678, "c": 123456.789, "d": None}) == {
        "a": [0.333333, [0.666667]],
        "b": 12345678,
        "c": 123457.0,
        "d": None,
    }
