"""``xmoe synth`` writes the set that its options describe, and never over another one."""

import json

import pytest
import soundfile

from xmoe.cli import main


def run(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([*args, "--json", "-q"])
    return left.value.code, json.loads(capsys.readouterr().out)


def test_set_is_as_the_options_say(tmp_path, capsys):
    root = tmp_path / "set"
    options = ["--clips", "6", "--classes", "2", "--rate", "8000", "--duration", "0.5"]
    code, fields = run(capsys, "synth", str(root), *options)
    assert code == 0
    assert fields["clips"] == 6
    assert len(fields["classes"]) == 2
    files = sorted((root / "audio").glob("*.wav"))
    assert len(files) == 6
    assert {soundfile.info(file).frames for file in files} == {4000}
    assert (root / "boxes.csv").is_file()


def test_a_set_is_not_written_over_unless_told(tmp_path, capsys):
    assert run(capsys, "synth", str(tmp_path), "--clips", "2")[0] == 0
    code, fields = run(capsys, "synth", str(tmp_path), "--clips", "2")
    assert (code, fields["error"]) == (2, "ConfigError")
    assert "--force" in fields["mend"]
    assert run(capsys, "synth", str(tmp_path), "--clips", "2", "--force")[0] == 0


def test_progress_goes_to_the_error_stream(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["synth", str(tmp_path), "--clips", "2", "--json"])
    captured = capsys.readouterr()
    assert "synth 2/2" in captured.err
    assert json.loads(captured.out)["clips"] == 2
