"""``xmoe eval`` measures one split and says where it wrote."""

import pytest

from xmoe.cli import main


def test_split_and_folder_reach_the_classifier(classifier, run_json, tmp_path):
    code, fields = run_json("eval", tmp_path, "--dataset", tmp_path, "--split", "val")
    assert code == 0
    assert fields["accuracy"] == 0.9
    assert fields["split"] == "val"
    settings = dict(classifier.calls)["evaluate"]
    assert settings["split"] == "val"
    assert settings["out_dir"] == tmp_path / "eval-val"


def test_run_folder_must_be_there(classifier, run_json, tmp_path):
    code, fields = run_json("eval", tmp_path / "no", "--dataset", tmp_path)
    assert code == 2
    assert classifier.calls == []
    assert fields["ok"] is False


def test_explanations_are_measured_where_asked(classifier, run_json, tmp_path, capsys):
    code, _ = run_json("eval", tmp_path, "--dataset", tmp_path)
    assert dict(classifier.calls)["evaluate"]["explained"] == 0
    row = {"deletion": 0.2, "deletion_ci": [0.1, 0.3], "insertion": 0.8, "insertion_ci": [0.7, 0.9]}
    gains = {"deletion_gain": 0.3, "deletion_gain_ci": [0.2, 0.4], "ms": 1.5, "stability": 0.98}
    gains |= {"insertion_gain": 0.25, "insertion_gain_ci": None}
    methods = {"saliency": row | gains, "random": row}
    survey = {"num_clips": 5, "questions": {"label": {"watched": "p", "methods": methods}}}
    classifier.survey = survey
    code, fields = run_json(
        "eval", tmp_path, "--dataset", tmp_path, "--explanations", "--explained", "5"
    )
    assert code == 0
    assert dict(classifier.calls)["evaluate"]["explained"] == 5
    assert fields["explanations"] == survey
    with pytest.raises(SystemExit):
        main(["eval", str(tmp_path), "--dataset", str(tmp_path), "--explanations"])
    shown = capsys.readouterr().out
    assert "why this label: p (5 clips)" in shown
    assert "+0.300 (+0.200 to +0.400)" in shown


def test_robustness_is_measured_where_asked_and_goes_into_the_run(
    classifier, run_json, tmp_path, capsys
):
    run_json("eval", tmp_path, "--dataset", tmp_path)
    assert "robustness" not in dict(classifier.calls)
    args = ("eval", tmp_path, "--dataset", tmp_path, "--robustness", "--harmed", "40")
    code, fields = run_json(*args)
    assert code == 0
    assert fields["robustness"]["clean"]["accuracy"] == 0.9
    settings = dict(classifier.calls)["robustness"]
    assert (settings["clips"], settings["split"], settings["out_dir"]) == (40, "test", tmp_path)
    with pytest.raises(SystemExit):
        main([str(arg) for arg in args])
    shown = capsys.readouterr().out
    assert "40 clips, 0.900 right as they are" in shown
    assert "too fast for it" in shown
    assert "xmoe report" in shown
