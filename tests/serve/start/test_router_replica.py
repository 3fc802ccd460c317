"""A real cluster on this machine: the answers of ``predict``, experts that die, a clean end."""

import re
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import requests

from xmoe.serve.settings import ServeSettings
from xmoe.serve.start.session import serving

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RATE_HZ = 8000
DEADLINE_S = 5.0


@pytest.fixture(scope="module")
def address(tiny_run) -> Iterator[str]:
    """The address of a distributed service of the tiny run, with two routers."""
    settings = ServeSettings(
        run=str(tiny_run), faults={"deadline_ms": 1000.0 * DEADLINE_S}, router={"replicas": 2}
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(settings, host="127.0.0.1", port=port) as url:
        yield url


def post(address, data, **query):
    return requests.post(f"{address}/v1/classify", data=data, params=query, timeout=30)


def test_cluster_gives_the_answers_of_predict(address, wav, sound, in_process):
    for seed in range(3):
        for k_max in (0, 1, 2):
            answer = post(address, wav(sound(seed=seed)), k_max=k_max).json()
            expected = in_process.predict(sound(seed=seed), RATE_HZ, k_max=k_max)
            assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
            assert answer["k"] == expected.k
            assert not answer["degraded"]


def test_each_expert_is_a_deployment_of_its_own(address):
    from ray import serve

    deployments = serve.status().applications["xmoe"].deployments
    experts = {"expert-broadband", "expert-low", "expert-transient"}
    assert set(deployments) == {"router"} | experts


def test_readiness_reaches_every_expert(address):
    reply = requests.get(f"{address}/readyz", timeout=30)
    assert reply.status_code == 200
    assert set(reply.json()["experts"].values()) == {"ok"}


def ask_experts(address):
    return requests.get(f"{address}/v1/experts", timeout=30).json()


def test_experts_say_where_they_live_and_how_many_they_are(address):
    answer = ask_experts(address)
    experts = answer["experts"]
    assert {expert["deployment"] for expert in experts} == {f"expert-{e['name']}" for e in experts}
    assert all(expert["replicas"] == {"running": 1, "target": 1} for expert in experts)
    assert (answer["routers"], answer["silent_routers"], answer["other_routers"]) == (2, 0, 0)


def test_whichever_router_is_asked_speaks_for_both(address, wav, sound):
    time.sleep(1.1)  # what the other router said is kept for a second
    before = count_calls(address)
    asked = [post(address, wav(sound(seed=seed)), k_max=2).json()["k"] for seed in range(12)]
    assert sum(asked) > 12
    time.sleep(1.1)
    assert {count_calls(address) - before for _ in range(10)} == {sum(asked)}
    used = [expert for expert in ask_experts(address)["experts"] if expert["calls"]]
    assert len(used) >= 2
    assert all(expert["mean_ms"] > 0.0 and expert["ongoing"] == 0 for expert in used)
    assert all(expert["per_s"] > 0.0 for expert in used)


def count_calls(address):
    return sum(expert["calls"] for expert in ask_experts(address)["experts"])


def test_many_at_once_are_all_answered(address, wav, sound):
    data, statuses = wav(sound()), []

    def ask():
        statuses.extend(post(address, data).status_code for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40


def scrape():
    """What Prometheus reads from this Ray: sample names with labels, and their values."""
    import ray

    port = ray.nodes()[0]["MetricsExportPort"]
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    samples = re.findall(r"^(ray_xmoe_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return [(n, dict(re.findall(r'(\w+)="(.*?)"', labels)), float(v)) for n, labels, v in samples]


def test_no_replica_holds_pandas(address):
    replicas = processes_of("ServeReplica:xmoe:")
    assert len(replicas) == 5
    files = {mapped.path for replica in replicas for mapped in replica.memory_maps()}
    assert any("libtorch_cpu" in path for path in files)
    assert [path for path in files if "pandas" in path] == []


@pytest.mark.slow
def test_metrics_reach_prometheus_under_the_names_of_the_docs(address, wav, sound):
    assert requests.get(f"{address}/readyz", timeout=30.0).json()["ready"]  # asks every expert
    for seed in range(5):
        assert post(address, wav(sound(seed=seed))).status_code == 200
    assert post(address, b"no recording").status_code == 415
    wanted = {
        "ray_xmoe_expert_calls_total": ("expert", {"broadband", "low", "transient"}),
        "ray_xmoe_expert_call_ms_count": ("expert", {"broadband", "low", "transient"}),
        "ray_xmoe_stage_ms_count": ("stage", {"decode", "frontend", "plan", "experts"}),
        "ray_xmoe_answers_total": ("degraded", {"false"}),
        "ray_xmoe_refusals_total": ("code", {"not_audio"}),
        "ray_xmoe_experts_asked_count": ("WorkerId", set()),
        "ray_xmoe_block_rows_count": ("WorkerId", set()),
    }
    until = time.monotonic() + 60.0
    found = scrape()
    while not {name for name, _, _ in found} >= set(wanted) and time.monotonic() < until:
        time.sleep(1.0)
        found = scrape()
    for name, (label, values) in wanted.items():
        assert {labels[label] for n, labels, _ in found if n == name} >= values, name
    for name, labels, _ in found:
        assert {"application", "deployment", "run"} <= set(labels), name
        assert len(labels["weights"]) == 12, name
    calls = [s for s in found if s[0] == "ray_xmoe_expert_calls_total"]
    assert {labels["outcome"] for _, labels, _ in calls} == {"ok"}
    answers = [value for name, _, value in found if name == "ray_xmoe_answers_total"]
    assert sum(answers) >= 5


def processes_of(name):
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if any(name in word for word in child.cmdline())
    ]


@pytest.mark.slow
def test_a_router_that_hangs_or_dies_is_left_out_and_its_successor_counts(address):
    victim, _ = processes_of("xmoe:router")

    def wait_for(routers, silent):
        until = time.monotonic() + 90.0
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                answer = requests.get(f"{address}/v1/experts", timeout=5.0).json()
            except requests.RequestException:
                continue  # the proxy sent it to the victim
            assert time.monotonic() - began < 4.0
            if (answer["routers"], answer["silent_routers"]) == (routers, silent):
                return
        raise AssertionError(answer)

    victim.suspend()
    try:
        wait_for(1, 1)
    finally:
        victim.kill()
    wait_for(2, 0)


@pytest.mark.slow
def test_answers_go_on_when_the_only_replica_of_an_expert_is_killed(address, wav, sound):
    wanted = post(address, wav(sound())).json()["experts"][0]["name"]
    victims = processes_of(f"expert-{wanted}")
    assert len(victims) == 1
    victims[0].kill()
    states, until = [], time.monotonic() + 60.0
    while time.monotonic() < until and not (True in states and states[-5:] == [False] * 5):
        began = time.monotonic()
        reply = post(address, wav(sound()))
        assert reply.status_code == 200, reply.text
        assert time.monotonic() - began < DEADLINE_S + 0.5
        states.append(reply.json()["degraded"])
    assert True in states  # it was missed,
    assert states[-5:] == [False] * 5  # and it came back
