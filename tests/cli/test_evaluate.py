"""``xmoe eval`` measures one split and says where it wrote."""


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
