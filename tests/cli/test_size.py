"""``xmoe size`` tells what was measured and writes values of the chart."""

import json

from tests.fixtures.runs import tiny_config, write_run
from xmoe.serve.plan import size
from xmoe.serve.plan.size import ProcessSize, fit_node
from xmoe.serve.settings import ServeSettings


def test_values_are_written(tmp_path, run_json, monkeypatch):
    write_run(tmp_path / "run", tiny_config())

    def measure(run, node):
        assert run == str(tmp_path / "run")
        found = [ProcessSize(name=n, rss_mb=600, pss_mb=400, own_mb=300) for n in ("router", "low")]
        return fit_node(found, node)

    monkeypatch.setattr(size, "measure_sizes", measure)
    out = tmp_path / "sizes.json"
    code, fields = run_json("size", tmp_path / "run", "--node-gb", 16, "--out", out)
    assert code == 0
    assert fields["sets_per_node"] == 10  # 16000 * 0.65 / 1000
    settings = json.loads(out.read_text())["service"]["settings"]
    assert ServeSettings.model_validate({"run": "r", **settings}).expert.memory_mb == 500.0
