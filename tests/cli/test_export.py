"""``xmoe export`` writes a folder that answers, and says what it wrote."""

from tests.fixtures.closed_runs import write_closed_run
from tests.fixtures.runs import tiny_config, write_run
from xmoe_lite.model import Model


def test_a_run_is_written_as_files(run_json, tmp_path):
    run = write_closed_run(tmp_path / "run")
    code, fields = run_json("export", run, "--out", tmp_path / "out")
    assert (code, fields["out"]) == (0, str(tmp_path / "out"))
    assert {"model.json", "stem.onnx", "expert-first.onnx"} <= set(fields["files"])
    assert Model(tmp_path / "out").classes == ["click", "hum", "tone"]


def test_a_run_by_gradient_is_wrong_input(run_json, tmp_path):
    run = write_run(tmp_path / "run", tiny_config())
    code, fields = run_json("export", run, "--out", tmp_path / "out")
    assert (code, fields["error"]) == (2, "ConfigError")
    assert "trained by gradient" in fields["what"]
