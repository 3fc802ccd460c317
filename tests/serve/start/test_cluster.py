"""Another team's application on the same cluster is left as it was."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.serve.start.cluster import Neighbours, Place, check_answers, check_room, find_address

THEIRS = """
import json, sys
import ray
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Theirs:
    async def __call__(self, request):
        return "theirs"

ray.init(address="local", num_cpus=2, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Theirs.bind(), name="xmoe", route_prefix="/theirs")
print("ADDRESS", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def around(host="127.0.0.1", apps=(), ip="10.0.0.5"):
    return Neighbours.model_validate(
        {
            "http_options": {"host": host, "port": 8000, "root_path": "", "location": None},
            "proxies": {"n": {"node_ip": ip, "status": "HEALTHY"}},
            "applications": {name: {"route_prefix": prefix} for name, prefix in apps},
        }
    )


def test_name_that_is_taken_is_refused_unless_it_is_to_be_replaced():
    there = around(apps=[("xmoe", "/xmoe"), ("other", "/")])
    with pytest.raises(ConfigError, match="named xmoe runs there already"):
        check_room(there, Place("auto"))
    check_room(there, Place("auto", replace=True))
    check_room(there, Place("auto", "birds"))


def test_routes_that_are_taken_are_refused_even_to_replace():
    there = around(apps=[("other", "/birds")])
    with pytest.raises(ConfigError, match="other answers at /birds"):
        check_room(there, Place("auto", "birds", replace=True))


@pytest.mark.parametrize(
    ("host", "here", "expected"),
    [
        ("127.0.0.1", "10.0.0.5", "http://127.0.0.1:8000/a"),
        ("0.0.0.0", "10.0.0.5", "http://127.0.0.1:8000/a"),
        ("0.0.0.0", "10.0.0.9", "http://10.0.0.5:8000/a"),
        ("::1", "10.0.0.5", "http://[::1]:8000/a"),
    ],
)
def test_address_is_that_of_the_proxy(host, here, expected):
    assert find_address(around(host), "/a", here) == expected
    assert find_address(around(host), "/", here) == expected.removesuffix("/a")


def test_serve_without_a_proxy_is_told():
    with pytest.raises(XmoeError, match="takes no HTTP"):
        find_address(Neighbours(), "/", "10.0.0.5")


def test_address_that_does_not_answer_is_an_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(XmoeError, match="does not answer from here"):
            check_answers(address, within_s=0.0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    return requests.get(url, timeout=30).content


@pytest.fixture(scope="module")
def theirs():
    """Another team's cluster with an application named as ours: its address, and the URL."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", THEIRS, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("ADDRESS"):
                break
        else:
            pytest.fail("the other cluster did not start")
        yield line.split()[1], f"http://127.0.0.1:{port}"


def start_ours(run, *options, **environment):
    """Start ``xmoe serve``; returns the process, whose words on the screen can be read."""
    command = [sys.executable, "-m", "xmoe", "serve", run, "--topology", "colocated", *options]
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "token", **environment},
    )


def read_address(process):
    """The address that ``xmoe serve`` prints, and every line before it."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("address"):
            return line.split()[1], lines
    pytest.fail("".join(lines))


def stop(process, number=signal.SIGTERM):
    """End a process as an operator does; returns its last lines and the seconds that it took."""
    began = time.monotonic()
    process.send_signal(number)
    _, last = process.communicate(timeout=60)
    return last, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_of_its_own_beside_a_cluster_that_the_environment_names(theirs, tiny_run):
    cluster, url = theirs
    port = free_port()
    ours = start_ours(tiny_run, "--port", port, "--routers", 1, RAY_ADDRESS=cluster)
    address, _ = read_address(ours)
    assert address == f"http://127.0.0.1:{port}"
    assert json.loads(get(f"{address}/readyz"))["ready"]
    stop(ours)
    assert ours.returncode == 0
    assert get(f"{url}/theirs") == b"theirs"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_application_of_the_same_name_is_left_alone(theirs, tiny_run):
    cluster, url = theirs
    ours = start_ours(tiny_run, "--address", cluster)
    _, said = ours.communicate(timeout=120)
    assert ours.returncode == 2
    assert "named xmoe runs there already" in said
    assert get(f"{url}/theirs") == b"theirs"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_joined_cluster_keeps_the_others_and_loses_only_ours(theirs, tiny_run, wav, sound):
    cluster, url = theirs
    ours = start_ours(tiny_run, "--address", cluster, "--name", "birds", "--routers", 1)
    address, _ = read_address(ours)
    assert address == f"{url}/birds"
    reply = requests.post(f"{address}/v1/classify", data=wav(sound()), timeout=30)
    assert reply.json()["label"] in ("click", "tone")
    assert b"page/page.js" in get(f"{address}/")
    assert b"import" in get(f"{address}/page/page.js")
    assert get(f"{url}/theirs") == b"theirs"
    stop(ours, signal.SIGINT)
    assert ours.returncode == 0
    assert get(f"{url}/theirs") == b"theirs"
    assert requests.get(f"{address}/healthz", timeout=30).status_code == 404
