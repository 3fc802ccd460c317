"""Tables say the figure, its interval, and the baseline beside it."""

import io

from rich.console import Console

from xmoe.cli.figures import answers_table, metrics_table


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
    assert any("c.wav" in line and "no samples" in line for line in lines)
