"""Tables say the figure, its interval, and the baseline beside it."""

import io

from rich.console import Console

from xmoe.cli.figures import answers_table, metrics_table, mixture_table


def shown(table):
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    return console.file.getvalue()


def test_metrics_have_intervals_and_baselines_beside_them():
    metrics = {
        "accuracy": 0.9,
        "accuracy_ci": [0.85, 0.94],
        "map": None,
        "majority_accuracy": 0.125,
        "baseline_accuracy": 0.8,
        "mean_k": 1.234,
    }
    text = shown(metrics_table(metrics, "test split"))
    assert "0.9000" in text
    assert "0.8500 - 0.9400" in text
    assert "0.1250" in text
    assert "0.8000" in text
    assert "1.23" in text
    assert "mAP" not in text


def test_answers_mark_doubt_and_errors():
    sure = {
        "file": "a.wav",
        "label": "whale",
        "labels": ["whale"],
        "probability": 0.98765,
        "uncertain": False,
        "k": 2.0,
        "experts": [{"name": "low", "weight": 0.75}],
    }
    unsure = sure | {"file": "b.wav", "label": "ship", "labels": [], "uncertain": True}
    broken = {"file": "c.wav", "error": "AudioError", "what": "no samples"}
    lines = shown(answers_table([sure, unsure, broken])).splitlines()
    assert any("whale " in line and "0.988" in line and "low 0.75" in line for line in lines)
    assert any("ship ?" in line for line in lines)
    assert any("? uncertain" in line for line in lines)
    assert "uncertain" not in shown(answers_table([sure, broken]))
    assert any("c.wav" in line and "no samples" in line for line in lines)


def test_what_a_mixture_gains_and_costs_is_said_where_costs_are_known():
    metrics = {
        "accuracy": 0.97,
        "mean_k": 0.8,
        "mean_ms": 8.2,
        "accuracy_at_fixed_k": {"0": 0.92, "10": 0.98, "9": 0.9},
        "ms_at_fixed_k": {"0": 4.8, "10": 27.3, "9": 20.0},
        "alone": {"low": 0.91, "mid": 0.9},
        "ms_alone": {"low": 6.04, "mid": 2.0},
    }
    text = shown(mixture_table(metrics))
    for cell in ("0.9200", "4.8", "low", "0.9100", "6.0", "0.9700", "0.80", "0.9800", "27.3"):
        assert cell in text
    assert mixture_table({"accuracy": 0.9, "accuracy_at_fixed_k": {"0": 0.9}}) is None
