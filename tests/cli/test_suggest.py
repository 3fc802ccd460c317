"""``xmoe suggest`` writes the table and says what was left out."""

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.runs import tiny_config, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_run(root, tiny_config())
    return root


@pytest.fixture
def recordings(tmp_path):
    for index in range(6):
        noise = 0.1 * np.random.default_rng(index).standard_normal(4000)
        sf.write(tmp_path / f"{index}.wav", noise, 8000)
    return tmp_path


def test_a_table_is_written_into_the_run(run, recordings, run_json):
    code, fields = run_json("suggest", run, "--input", recordings, "--n", 2)
    assert code == 0
    assert (len(fields["rows"]), fields["answered"], fields["bad"]) == (2, 6, [])
    assert fields["files"] == [str(run / "suggested" / "suggested.csv")]
    lines = (run / "suggested" / "suggested.csv").read_text().splitlines()
    assert lines[0].startswith("filepath,start_s,end_s,label,")
    assert len(lines) == 3


def test_tables_for_raven_and_audacity_are_written_beside(run, recordings, run_json, tmp_path):
    options = ("--n", 1, "--out", tmp_path / "out", "--format", "raven", "--format", "audacity")
    _, fields = run_json("suggest", run, "--input", recordings, *options)
    assert [name.rpartition(".")[2] for name in fields["files"]] == ["csv", "txt", "txt"]


def test_where_nothing_can_be_read_it_is_no_success(run, run_json, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"nonsense" * 20)
    code, fields = run_json("suggest", run, "--input", tmp_path, "--out", tmp_path / "out")
    assert (code, fields["ok"], fields["answered"]) == (2, False, 0)
    assert "a.wav" in fields["bad"][0]
