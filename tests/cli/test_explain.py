"""``xmoe explain`` says the answer, who was asked and where the pictures are."""

import pytest

from xmoe.cli import main


def test_record_and_folder_are_the_answer(classifier, run_json, tmp_path):
    out = tmp_path / "why"
    code, fields = run_json("explain", tmp_path, "a.wav", "--out", out, "--method", "saliency")
    assert code == 0
    assert fields["answer"] == "whale"
    assert fields["out"] == str(out)
    assert dict(classifier.calls)["explain"]["method"] == "saliency"


def test_people_read_expert_band_and_span(classifier, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["explain", str(tmp_path), "a.wav", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "answer whale (p = 0.750), K = 1" in shown
    assert "0 - 500 Hz" in shown
    assert "0.25-0.50 s" in shown
    assert "why these experts: Asked: low." in shown
    assert str(tmp_path / "gradcam.png") in shown
