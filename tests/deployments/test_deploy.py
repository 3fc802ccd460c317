"""``serve deploy deployments/cpu.yaml`` on a Ray of its own: each expert is a deployment."""

import json

import pytest

from tests.fixtures.runs import make_sound, to_wav, write_run


@pytest.mark.slow
def test_cpu_file_is_deployed_and_each_expert_is_seen(cluster, tmp_path, patiently, reply_of):
    run = write_run(tmp_path / "run")
    cluster.deploy("cpu.yaml", tmp_path / "cpu.yaml", run)
    deployments = patiently(cluster.application)["deployments"]
    assert {n: d["status"] for n, d in deployments.items()} == dict.fromkeys(
        ["router", "expert-broadband", "expert-low", "expert-transient"], "HEALTHY"
    )
    sound = to_wav(make_sound())
    answer = json.loads(patiently(lambda: reply_of(f"{cluster.url}/v1/classify", sound)))
    assert answer["k"] == len(answer["experts"]) == 2
    assert not answer["degraded"]
