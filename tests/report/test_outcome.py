"""Figures on test: one line, confusion, calibration, classes; long lists are cut to the worst."""

import numpy as np

from xmoe.report.outcome import (
    describe_calibration,
    describe_classes,
    describe_confusion,
    describe_figures,
    describe_fit,
    describe_learning,
    list_pairs,
    most_confused,
    say_answer,
)


def test_the_answer_stands_beside_what_it_has_to_beat():
    metrics = {"accuracy": 0.9, "accuracy_ci": [0.8, 0.95], "num_clips": 50}
    said = say_answer(metrics | {"baseline_accuracy": 0.7, "majority_accuracy": 0.25})
    assert said == (
        "90.0 % accuracy on 50 test clips (95 % interval 80.0 to 95.0); a random-kernel baseline "
        "reaches 70.0 %; always the commonest answer reaches 25.0 %."
    )
    assert "overlap of labels" in say_answer({"accuracy": 0.5, "task": "multi_label"})


def test_pictures_have_words(records):
    assert 'alt="Learning curves: Kept' in describe_learning(records)
    assert 'alt="Calibration curve: ' in describe_calibration(records)
    assert 'alt="Confusion matrix: ' in describe_confusion(records)
    assert "Calibration error" in describe_figures(records)


def test_no_history_is_said(records):
    records.__dict__["history"] = []
    assert "no history" in describe_learning(records)


def test_worst_classes_come_first_and_long_lists_are_cut(records):
    rows = [
        {"class_id": i, "support": 1, "precision": 1.0, "recall": 1.0, "f1": i / 99}
        for i in range(60)
    ]
    names = [f"class {i}" for i in range(60)]
    records.__dict__["metrics"] = {"classes": names, "per_class": rows[::-1]}
    made = describe_classes(records)
    assert made.count("<tr>") == 41
    assert made.index("class 0<") < made.index("class 1<")
    assert "20 classes with a better F1" in made


def test_many_classes_are_cut_to_the_most_confused():
    counts = np.diag(np.full(100, 5))
    counts[3, 77] = 4
    assert most_confused(np.eye(3, dtype=int)) == [0, 1, 2]
    assert {3, 77} <= set(most_confused(counts))
    assert len(most_confused(counts)) == 40
    assert list_pairs(counts, tuple(map(str, range(100)))) == [("3", "77", 4)]


def test_several_labels_have_a_picture_and_no_pairs(records):
    counts = np.tile([[5, 1], [2, 4]], (50, 1, 1))
    records.__dict__["metrics"] = {"classes": list(map(str, range(50))), "confusion": counts}
    made = describe_confusion(records)
    assert "The 40 of 50 classes" in made
    assert "<table" not in made


def test_a_fit_in_closed_form_says_who_judged_it():
    record = {
        "minutes": 1.25,
        "clips": 40,
        "segments": 55,
        "sources": "the manifest's groups",
        "judged": "held out by source",
        "first_most": 2,
        "doubt": {"reason": "of the answers under 0.8 half were wrong"},
    }
    made = describe_fit(record)
    assert "1.2 minutes, on 40 clips in 55 segments" in made
    assert "held out by source" in made
    assert "at most 2 experts" in made
    assert "half were wrong" in made
