"""``xmoe demo`` makes its set, trains, explains three clips, and never clears a foreign folder."""

from pathlib import Path


def test_whole_path_in_one_folder(classifier, run_json, tmp_path):
    out = tmp_path / "demo"
    code, fields = run_json("demo", "--out", out, "--clips", "80", "--epochs", "1")
    assert code == 0
    assert fields["accuracy"] == 0.9
    assert len(list((out / "recordings" / "audio").glob("*.wav"))) == 80
    assert dict(classifier.calls)["fit"]["out_dir"] == out / "run"
    labels = [row["label"] for row in fields["explained"]]
    assert len(set(labels)) == 3
    assert all(
        Path(picture).name == "gradcam.png" for picture in fields["explained"][0]["pictures"]
    )


def test_former_demo_is_replaced(classifier, run_json, tmp_path):
    out = tmp_path / "demo"
    run_json("demo", "--out", out, "--clips", "80")
    (out / "left-over").touch()
    assert run_json("demo", "--out", out, "--clips", "80")[0] == 0
    assert not (out / "left-over").exists()


def test_folder_with_something_else_is_refused(classifier, run_json, tmp_path):
    mine = tmp_path / "thesis.txt"
    mine.touch()
    code, fields = run_json("demo", "--out", tmp_path)
    assert (code, fields["error"]) == (2, "ConfigError")
    assert mine.exists()
    assert classifier.calls == []
