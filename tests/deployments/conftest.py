"""A Ray head that is a child of the test, and files of ``deployments/`` deployed to it."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

with warnings.catch_warnings():  # Ray Serve warns of its own settings, and warnings are errors
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401

ROOT = Path(__file__).parents[2]
WITHIN_S = 400.0
ENDED_S = 30.0


def free_ports(count):
    """Return ports of loopback that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


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


@dataclass(frozen=True)
class Cluster:
    """A Ray head of a test's own; what is deployed to it listens on ``port``."""

    env: dict[str, str]
    port: int

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def serve(self, *words):
        """Return what ``serve`` says; it must succeed."""
        command = [sys.executable, "-m", "ray.serve.scripts", *words]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def deploy(self, name, file, run, **args):
        """Deploy a file of ``deployments/`` with another run; ``file`` is where it is written."""
        config = yaml.safe_load((ROOT / "deployments" / name).read_text())
        config["http_options"]["port"] = self.port
        config["applications"][0]["args"] |= {"run": str(run)} | args
        file.write_text(yaml.safe_dump(config))
        self.serve("deploy", str(file))

    def application(self):
        """Return what ``serve status`` says of xmoe once it runs, and None before."""
        app = yaml.safe_load(self.serve("status"))["applications"].get("xmoe", {})
        assert app.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY"), app
        return app if app.get("status") == "RUNNING" else None


def read_block():
    """Return the environment, the lines before and after the head's start, as the page has them."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n([^`]*ray start --head\n[^`]*)```", page)
    before, after = (part.splitlines() for part in block.split("ray start --head\n"))
    exports = [line.removeprefix("export ") for line in before if line.startswith("export ")]
    env = dict(line.split("=") for line in exports)
    return env, [line for line in before if not line.startswith("export ")], after


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray head that is a child of this test, with the environment that the page tells."""
    gcs, dashboard, client, port = free_ports(4)
    folder = tmp_path_factory.mktemp("r").parent.parent / f"r{port}"  # socket paths must be short
    documented, lines, after = read_block()
    assert after == ["serve deploy deployments/cpu.yaml"]
    home = tmp_path_factory.mktemp("home")
    env = os.environ | {
        **documented,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # Ray's own would let replicas starve on a busy machine
    }
    for line in lines:
        subprocess.run(["bash", "-c", line], env=env, check=True, timeout=90)
    words = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}"]
    words += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    words += ["--num-cpus=4", f"--temp-dir={folder}", "--disable-usage-stats"]
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    started = {name: value for name, value in env.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, env=started, stdout=subprocess.DEVNULL) as head:
        family = psutil.Process(head.pid)
        try:
            wait_for(lambda: ask(f"http://127.0.0.1:{dashboard}/"))
            yield Cluster(env, port)
        finally:
            children = family.children(recursive=True)
            head.terminate()
            _, left = psutil.wait_procs(children, timeout=ENDED_S)
            for process in left:
                process.kill()


@pytest.fixture(scope="session")
def patiently():
    """The function that waits for a truthy value."""
    return wait_for


@pytest.fixture(scope="session")
def reply_of():
    """The function that returns the reply to a request, or None."""
    return ask
