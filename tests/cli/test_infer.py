"""``xmoe infer`` answers for every file; one that cannot be read costs only its own answer."""


def test_each_file_has_its_answer(classifier, run_json, tmp_path):
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    first.touch()
    second.touch()
    code, fields = run_json("infer", tmp_path, first, second)
    assert code == 0
    assert [row["file"] for row in fields["answers"]] == [str(first), str(second)]
    assert fields["answers"][0]["label"] == "whale"


def test_bad_file_is_reported_in_its_place(classifier, run_json, tmp_path):
    good = tmp_path / "a.wav"
    good.touch()
    code, fields = run_json("infer", tmp_path, tmp_path / "no.wav", good)
    assert code == 2
    assert fields["failed"] == 1
    bad, fine = fields["answers"]
    assert (bad["code"], bad["mend"]) == ("missing", "check it")
    assert fine["label"] == "whale"


def test_no_file_is_a_usage_error(classifier, run_json, tmp_path):
    code, fields = run_json("infer", tmp_path)
    assert code == 2
    assert "FILES" in fields["what"]
