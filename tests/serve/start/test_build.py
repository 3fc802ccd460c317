"""Settings -> deployments: what is refused, how experts scale, and answers on a real local Ray."""

import json
import logging
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from ray import serve

from xmoe.base.errors import ConfigError, RunFolderError, RunVersionError
from xmoe.serve.settings import ExpertDeployment, RouterSettings, ServeSettings
from xmoe.serve.start.build import MOST_ROUTERS, build, check_settings, count_routers, scaling_of

RATE_HZ = 8000
EXPERTS = ("broadband", "low", "transient")
NO_CPU = {"num_cpus": 0.05}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "run"),
        ({"run": "r", "topologie": "colocated"}, "topologie"),
        ({"run": "r", "topology": "mesh"}, "topology"),
        ({"run": "r", "expert": {"replicas": 2}}, "expert.replicas"),
        ({"run": "r", "experts": {"low": {"min_replicas": 0}}}, "experts.low.min_replicas"),
        ({"run": "r", "faults": {"min_gate_mass": 2}}, "faults.min_gate_mass"),
    ],
)
def test_options_that_are_unknown_or_out_of_range_are_refused(options, where):
    with pytest.raises(ConfigError) as caught:
        check_settings(options)
    assert caught.value.where == where


def test_expert_that_the_run_does_not_have_is_refused(tiny_run):
    with pytest.raises(ConfigError, match="no experts high_band"):
        build({"run": str(tiny_run), "experts": {"high_band": {}}})


def test_whoever_deploys_imports_no_torch(tiny_run):
    look = (
        "import sys; from xmoe.serve.start.build import build; build({'run': sys.argv[1]}); "
        "raise SystemExit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", look, str(tiny_run)]
    assert subprocess.run(command, check=False).returncode == 0


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError):
        build({"run": str(tmp_path)})


@pytest.mark.parametrize("topology", ["distributed", "colocated"])
def test_run_of_another_version_is_refused_before_anything_is_sent(tmp_path, topology):
    (tmp_path / "run_config.json").write_text('{"schema_version": 1}')
    with pytest.raises(RunVersionError, match=r"of version 1; .*train again: xmoe train"):
        build({"run": str(tmp_path), "topology": topology})


def test_equal_bounds_are_a_fixed_number_of_replicas():
    assert scaling_of(ExpertDeployment(min_replicas=2, max_replicas=2)) == {"num_replicas": 2}


@pytest.mark.parametrize(
    ("topology", "router", "expected"),
    [
        ("distributed", {}, 1),
        ("colocated", {}, 3),
        ("colocated", {"num_gpus": 0.5}, 1),
        ("colocated", {"replicas": 2}, 2),
        ("distributed", {"replicas": 2}, 2),
    ],
)
def test_routers_that_hold_the_experts_take_a_processor_each(
    monkeypatch, topology, router, expected
):
    settings = ServeSettings(run="r", topology=topology, router=RouterSettings(**router))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert count_routers(settings) == expected
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert count_routers(settings) <= max(MOST_ROUTERS, expected)


@pytest.mark.filterwarnings("ignore:The `metrics_interval_s`:DeprecationWarning")
def test_bounds_apart_are_autoscaling():
    scaling = scaling_of(ExpertDeployment(max_replicas=3, target_ongoing_requests=2.0))
    config = scaling["autoscaling_config"]
    assert (config.min_replicas, config.max_replicas) == (1, 3)
    assert config.target_ongoing_requests == 2.0
    assert config.metrics_interval_s == 1.0


@pytest.fixture(scope="module")
def address(tiny_run):
    """The address of a local Serve with the tiny run in both topologies."""
    port = free_port()
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        for topology in ("colocated", "distributed"):
            settings = {
                "run": str(tiny_run),
                "topology": topology,
                "router": NO_CPU,
                "expert": NO_CPU,
                "faults": {"deadline_ms": 20_000.0},
            }
            serve.run(build(settings), name=topology, route_prefix=f"/{topology}")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def post(url, body):
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as reply:
        return json.load(reply)


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["colocated", "distributed"])
@pytest.mark.parametrize(("seconds", "seed"), [(0.4, 0), (0.4, 1), (2.0, 2)])
def test_answers_are_those_of_predict(address, topology, in_process, sound, wav, seconds, seed):
    expected = in_process.predict(sound(seconds, seed), RATE_HZ)
    answer = post(f"{address}/{topology}/v1/classify", wav(sound(seconds, seed)))
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert answer["k"] == expected.k == 2.0
    assert [use["name"] for use in answer["experts"]] == [use.name for use in expected.experts]
    assert not answer["degraded"]


@pytest.mark.slow
def test_each_expert_is_a_deployment_of_its_own(address):
    applications = serve.status().applications
    names = {name: set(app.deployments) for name, app in applications.items()}
    assert names == {
        "colocated": {"router"},
        "distributed": {"router", *(f"expert-{name}" for name in EXPERTS)},
    }


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["colocated", "distributed"])
def test_ready_asks_every_expert(address, topology):
    with urllib.request.urlopen(f"{address}/{topology}/readyz", timeout=60) as reply:
        assert json.load(reply)["experts"] == dict.fromkeys(EXPERTS, "ok")


@pytest.mark.slow
def test_requests_are_answered_while_an_expert_is_dead_and_it_comes_back(
    address, in_process, sound, wav
):
    victim = in_process.predict(sound(), RATE_HZ).experts[0].name
    url = f"{address}/distributed/v1/classify?deadline_ms=500"
    assert post(url, wav(sound()))["degraded"] is False
    prefix = f"SERVE_REPLICA::distributed#expert-{victim}#"
    named = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    for name in named:
        if name.startswith(prefix):
            ray.kill(ray.get_actor(name, namespace="serve"))
    answers, end = [post(url, wav(sound()))], time.monotonic() + 60.0
    while answers[-1]["degraded"] and time.monotonic() < end:
        time.sleep(0.5)
        answers.append(post(url, wav(sound())))
    assert answers[0]["degraded"]
    assert not answers[-1]["degraded"]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert set(answer["missing_experts"]) <= {victim}


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["colocated", "distributed"])
@pytest.mark.parametrize("kind", ["closed", "backbone"])
def test_experts_that_hear_sound_are_served_in_two_rounds(
    address, topology, kind, request, sound, wav
):
    in_process = request.getfixturevalue(f"{kind}_in_process")
    settings = {
        "run": str(request.getfixturevalue(f"{kind}_run")),
        "topology": topology,
        "router": NO_CPU | {"replicas": 1},
        "expert": NO_CPU,
        "faults": {"deadline_ms": 20_000.0},
    }
    serve.run(build(settings), name="closed", route_prefix="/closed")
    try:
        clips = [
            (sound(0.3 + 0.4 * (seed % 3), seed=seed), (8000, 11_025)[seed % 2])
            for seed in range(6)
        ]
        with ThreadPoolExecutor(len(clips)) as pool:
            urls = [f"{address}/closed/v1/classify"] * len(clips)
            answers = list(pool.map(post, urls, [wav(*clip) for clip in clips]))
        for answer, clip in zip(answers, clips, strict=True):
            expected = in_process.predict(*clip)
            assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
            assert answer["k"] == expected.k
            assert not answer["degraded"]
        first_round = int(in_process.model.router.first_most)
        assert max(answer["k"] for answer in answers) > first_round
    finally:
        serve.delete("closed")
