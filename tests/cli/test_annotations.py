"""``xmoe annotations``: what is written, said and refused."""

import numpy as np
import pytest
import soundfile as sf


@pytest.fixture
def folder(tmp_path):
    """Write four recordings of 4 s with one event each, and Audacity labels."""
    root = tmp_path / "recordings"
    root.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        sf.write(root / f"r{index}.wav", rng.normal(0, 0.1, 16_000).astype(np.float32), 4000)
        (root / f"r{index}.txt").write_text("1.0\t1.4\twhale\n")
    return root


def test_a_set_is_written_and_counted(folder, run_json, tmp_path):
    code, fields = run_json("annotations", folder, "--out", tmp_path / "set", "--background", "sea")
    assert code == 0
    assert (fields["recordings"], fields["clips"], fields["clip_s"]) == (4, 8, 0.5)
    counts = fields["counts"]
    assert sum(counts[split]["whale"] for split in counts) == 4
    assert counts["val"] == counts["test"] == {"sea": 1, "whale": 1}
    assert (tmp_path / "set" / "metadata.csv").is_file()
    assert any("--background sea" in note for note in fields["notes"])


def test_without_background_the_reply_says_what_that_costs(folder, run_json, tmp_path):
    _, fields = run_json("annotations", folder, "--out", tmp_path / "set", "--clip", "1")
    assert "without --background" in fields["notes"][-1]
    _, again = run_json(
        "annotations", folder, "--out", tmp_path / "set2", "--background", "background"
    )
    assert again["notes"] == []


@pytest.mark.parametrize(
    ("out", "options", "what"),
    [
        ("set", ["--held-out", "0.6"], "--held-out"),
        ("recordings/set", [], "which is read"),
        ("set", ["--label-column", "Kind"], None),
    ],
)
def test_wrong_options_are_refused(folder, run_json, tmp_path, out, options, what):
    code, fields = run_json("annotations", folder, "--out", tmp_path / out, *options)
    assert (code == 2) == (what is not None)
    assert what is None or what in fields["what"]


def test_a_set_is_written_over_only_by_force(folder, run_json, tmp_path):
    args = ("annotations", folder, "--out", tmp_path / "set")
    assert run_json(*args)[0] == 0
    code, fields = run_json(*args)
    assert code == 2
    assert "--force" in fields["mend"]
    assert run_json(*args, "--force")[0] == 0


def test_people_see_a_table_and_the_next_command(folder, tmp_path, capsys):
    from xmoe.cli import main

    with pytest.raises(SystemExit) as left:
        main(["annotations", str(folder), "--out", str(tmp_path / "set"), "-q"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "whale" in shown
    assert "next: xmoe train --dataset" in shown
