"""``serve deploy deployments/cpu.yaml`` on a Ray of its own: each expert is a deployment."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
WITHIN_S = 180.0
ENDED_S = 30.0


def free_ports(count):
    """Return ports of loopback that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def tiny():
    """What the tests of serving make their run and sounds with."""
    spec = importlib.util.spec_from_file_location("tiny", ROOT / "tests" / "serve" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*words, env):
    """Return what a command of Ray says; it must succeed."""
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    if words[0] == "serve":
        command = [sys.executable, "-m", "ray.serve.scripts", *words[1:]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment and dashboard address of a Ray head that is a child of this test."""
    gcs, dashboard, client = free_ports(3)
    folder = tmp_path_factory.getbasetemp().parent / "r"  # Ray's socket paths must be short
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
        "OMP_NUM_THREADS": "1",
    }
    words = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}"]
    words += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    words += ["--num-cpus=4", f"--temp-dir={folder}", "--disable-usage-stats"]
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    started = {name: value for name, value in env.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, env=started, stdout=subprocess.DEVNULL) as head:
        family = psutil.Process(head.pid)
        try:
            wait_for(lambda: ask(f"http://127.0.0.1:{dashboard}/api/version"))
            yield env
        finally:
            children = family.children(recursive=True)
            head.terminate()
            _, left = psutil.wait_procs(children, timeout=ENDED_S)
            for process in left:
                process.kill()


def ask(url, data=None):
    """Return the reply to a request, or None where there is none yet."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as reply:
            return reply.read()
    except (OSError, urllib.error.URLError):
        return None


def wait_for(function):
    """Return the first truthy value of a function; fail where there is none in time."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        if found := function():
            return found
        time.sleep(1.0)
    pytest.fail("it did not come up")


@pytest.mark.slow
def test_cpu_file_is_deployed_and_each_expert_is_seen(cluster, tiny, tmp_path):
    port = free_ports(1)[0]
    run = tiny.write_run(tmp_path / "run")
    file = tmp_path / "cpu.yaml"
    config = yaml.safe_load((ROOT / "deployments" / "cpu.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"]["run"] = str(run)
    file.write_text(yaml.safe_dump(config))
    call("serve", "deploy", str(file), env=cluster)

    def status():
        told = yaml.safe_load(call("serve", "status", env=cluster))
        app = told["applications"].get("xmoe", {})
        assert app.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY"), app
        return app if app.get("status") == "RUNNING" else None

    deployments = wait_for(status)["deployments"]
    assert {n: d["status"] for n, d in deployments.items()} == dict.fromkeys(
        ["router", "expert-broadband", "expert-low", "expert-transient"], "HEALTHY"
    )
    body = wait_for(
        lambda: ask(f"http://127.0.0.1:{port}/v1/classify", tiny.to_wav(tiny.make_sound()))
    )
    answer = json.loads(body)
    assert answer["k"] == len(answer["experts"]) == 2
    assert not answer["degraded"]
