"""``xmoe plan`` says what serves a rate, and that nothing does."""

import json

import pytest

from xmoe.serve.settings import ServeSettings


def test_replicas_nodes_and_cost_for_a_rate(closed_run, run_json, tmp_path):
    out = tmp_path / "values.json"
    rate = ("--rps", 100, "--p99-ms", 2000, "--node-price", 0.2, "--out", out)
    code, fields = run_json("plan", closed_run, *rate)
    assert code == 0
    assert fields["expected"]["p99_ms"] <= 2000
    assert fields["replicas"]["router"] >= 1
    assert fields["cost_per_million"] == pytest.approx(fields["nodes"] * 0.2 / 3600 / 100 * 1e6)
    settings = json.loads(out.read_text())["service"]["settings"]
    checked = ServeSettings.model_validate({"run": "r", **settings})
    assert checked.router.replicas == fields["replicas"]["router"]


def test_latency_that_nothing_keeps_is_no_success(closed_run, run_json):
    code, fields = run_json("plan", closed_run, "--rps", 10, "--p99-ms", 1)
    assert (code, fields["ok"]) == (1, False)
