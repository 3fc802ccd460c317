"""A real ``xmoe serve`` under faults: every request is answered, whatever happens to one expert."""

import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.fixtures.closed_runs import write_backbone_run
from tests.fixtures.runs import to_wav, write_run
from xmoe.audio.clip import read_clip
from xmoe.cli.edge import EXIT_INTERRUPTED
from xmoe.predict.predictor import Predictor

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
chaos = importlib.import_module("chaos")
faults = importlib.import_module("faults")

RATE_HZ = 8000
DEADLINE_MS = 2000.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def child(tiny_run):
    """A service of the tiny run in a process of its own."""
    with chaos.served(tiny_run, free_port(), "--deadline-ms", str(DEADLINE_MS)) as child:
        yield child


@pytest.fixture
def bodies(wav, sound):
    return [wav(sound(seed=seed)) for seed in range(6)]


def report(row):
    """Print a row for who reads the log, and return it."""
    print(json.dumps(row))
    return row


def assert_nothing_lost(load, victim):
    row = chaos.summarise(load)
    assert row["sent"] == row["answered"] > 0
    assert set(row["statuses"]) == {"200"}, row
    assert set(row["missing"]) <= {victim}
    assert row["p99_ms"] <= DEADLINE_MS + 500.0


def wait_complete(child, body, seconds=60.0):
    """Ask until an answer lacks no expert."""
    until = time.monotonic() + seconds
    connection = chaos.connect(child.url)
    while time.monotonic() < until:
        answered = chaos.send(connection, "/v1/classify", body, 0.0)
        if answered.status == 200 and not answered.missing:
            connection.close()
            return
        time.sleep(0.5)
    pytest.fail(f"still not complete after {seconds} s: {answered}")


def test_only_own_descendants_are_struck():
    parent = psutil.Process().parent()
    with pytest.raises(AssertionError, match="not a descendant"):
        chaos.strike(parent, signal.Signals.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_series_of_kills_costs_no_answer(child, bodies):
    victim = faults.choose_victim(child, bodies[0])
    series = faults.kill_series(child, bodies, victim, seconds=60.0, every_s=5.0)
    report(series.row())
    assert_nothing_lost(series.load, victim)
    assert len(series.kills_s) >= 3  # on a slow machine a replica needs a quarter of a minute
    wait_complete(child, bodies[0])

    gone = faults.kill_series(child, bodies, victim, seconds=20.0, every_s=0.0)
    report(gone.row())
    assert_nothing_lost(gone.load, victim)
    assert any(answer.missing for answer in gone.load.answers)
    wait_complete(child, bodies[0])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_expert_that_stands_still_costs_no_answer(child, bodies):
    victim = faults.choose_victim(child, bodies[0])
    (still,) = child.replicas(f"expert-{victim}")
    with chaos.clients(child.url, bodies, 4, pause_s=0.05) as load:
        time.sleep(2.0)
        chaos.strike(still, signal.SIGSTOP)
        time.sleep(20.0)
        if still.is_running():
            chaos.strike(still, signal.SIGCONT)
    report(chaos.summarise(load))
    assert_nothing_lost(load, victim)
    assert any(answer.missing for answer in load.answers)
    wait_complete(child, bodies[0])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ingress", ["python", "auto"])
def test_burst_is_answered_or_sent_away_and_nothing_hangs(tiny_run, bodies, ingress):
    with chaos.served(tiny_run, free_port(), "--ingress", ingress) as child:
        load = chaos.Clients(child.url, bodies)
        load.add(500)
        time.sleep(3.0)
        stopper = threading.Thread(target=load.stop)
        stopper.start()
        stopper.join(60.0)
        assert not stopper.is_alive()
    row = report(chaos.summarise(load))
    assert row["sent"] == row["answered"]
    assert set(row["statuses"]) <= {"200", "429", "503"}, row
    assert row["statuses"]["200"] > 0
    assert row["statuses"]["429"] > 0
    refused = [answer for answer in load.answers if answer.status in (429, 503)]
    assert all(answer.retry_after for answer in refused)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ingress", ["python", "auto"])
def test_dead_router_costs_no_more_than_what_it_held(tiny_run, bodies, ingress):
    clients, kills = 4, 0
    options = ("--routers", "2", "--ingress", ingress)
    with chaos.served(tiny_run, free_port(), *options) as child:
        with chaos.clients(child.url, bodies, clients, pause_s=0.05) as load:
            for _ in range(3):
                time.sleep(8.0)
                kills += chaos.strike_all(child.replicas("router")[:1])
            time.sleep(8.0)
        row = report({"kills": kills, **chaos.summarise(load)})
        assert row["sent"] == row["answered"]
        lost = [answer for answer in load.answers if answer.status != 200]
        assert {answer.status for answer in lost} <= {500, 503, "RemoteDisconnected"}
        assert len(lost) <= kills * clients
        assert all(answer.ms < DEADLINE_MS + 500.0 for answer in lost)
        assert kills == 3
        wait_complete(child, bodies[0])


def ask(child, body):
    """The answer to a recording."""
    connection = chaos.connect(child.url)
    connection.request("POST", "/v1/classify", body)
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_its_network_a_served_mixture_answers_as_the_rest_of_it(tmp_path, bodies):
    run = write_backbone_run(tmp_path / "run", fault="silence", k_price=-1000.0)
    whole, rest = Predictor.load(run), Predictor.load(run)
    del rest.experts["third"]

    def check(body, expected, missing):
        clip, answer = read_clip(io.BytesIO(body)), ask(child, body)
        wanted = expected.predict(clip.samples, clip.sample_rate_hz)
        assert answer["missing_experts"] == missing
        assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)

    with chaos.served(run, free_port(), "--deadline-ms", str(DEADLINE_MS)) as child:
        check(bodies[0], whole, [])
        check(to_wav(np.zeros(RATE_HZ // 2, np.float32)), rest, ["third"])  # it says NaN
        (network,) = child.replicas("expert-third")
        chaos.strike(network, signal.SIGSTOP)
        check(bodies[1], rest, ["third"])
        chaos.strike(network, signal.SIGCONT)
        wait_complete(child, bodies[2])
        check(bodies[2], whole, [])
        assert chaos.strike_all(child.replicas("expert-third")) == 1
        check(bodies[3], rest, ["third"])
        wait_complete(child, bodies[4])
        check(bodies[4], whole, [])


class Upload:
    """A request whose body has come by half."""

    def __init__(self, url, body):
        address = (chaos.urlsplit(url).hostname, chaos.urlsplit(url).port)
        self.socket = socket.create_connection(address, timeout=60.0)
        head = (
            f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + body[: len(body) // 2])
        self._rest = body[len(body) // 2 :]

    def finish(self):
        """Send the other half; return the status of the answer."""
        self.socket.sendall(self._rest)
        with self.socket, self.socket.makefile("rb") as reply:
            return int(reply.readline().split()[1])


LONG_S = 30.0  # of sound: more than HAProxy holds back, so that a router has it by half


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ingress", ["python", "auto"])
def test_a_signal_drains(tiny_run, bodies, number, ingress):
    long = to_wav(np.zeros(round(LONG_S * RATE_HZ), np.float32))
    with chaos.served(tiny_run, free_port(), "--ingress", ingress) as child:
        inside = [Upload(child.url, body) for body in [long] * 6]
        time.sleep(1.0)
        family = child.process.children(recursive=True)
        if number == signal.SIGINT:
            os.killpg(child.process.pid, number)  # a session of its own; so does a terminal
        else:
            chaos.strike(child.process, number)
        time.sleep(2.0)
        connection = chaos.connect(child.url)
        late = chaos.send(connection, "/v1/classify", bodies[0], 0.0)
        connection.close()
        assert (late.status, late.retry_after) == (503, "1")
        assert [upload.finish() for upload in inside] == [200] * len(inside)
        began = time.monotonic()
        assert child.process.wait(60.0) == 0
        report({"ingress": ingress, "end_s": round(time.monotonic() - began, 2)})
        assert psutil.wait_procs(family, timeout=20.0)[1] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_without_a_stack(tiny_run, number):
    command = [sys.executable, "-m", "xmoe", "serve", str(tiny_run), "--port", str(free_port())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = next(line for line in process.stderr if line.split()[:2] == ["ready", "0"])
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said + rest
    assert "interrupted" in rest
    assert "***" not in rest
    assert psutil.wait_procs(family, timeout=20.0)[1] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ingress", ["python", "auto"])
def test_a_killed_service_leaves_nobody_at_its_port(tiny_run, ingress):
    with chaos.served(tiny_run, free_port(), "--ingress", ingress) as child:
        at_port = find_listeners(child)
        chaos.strike(child.process, signal.SIGKILL)
        assert psutil.wait_procs(at_port, timeout=60.0)[1] == []
        host, port = chaos.urlsplit(child.url).hostname, chaos.urlsplit(child.url).port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=5.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_services_that_start_at_once_answer_for_themselves(tiny_run, tmp_path, bodies):
    runs = (tiny_run, write_run(tmp_path / "other", seed=1))
    with ExitStack() as stack, ThreadPoolExecutor(len(runs)) as pool:
        starts = [chaos.served(run, free_port(), "--ingress", "auto") for run in runs]
        one, other = pool.map(stack.enter_context, starts)
        assert not ports_of(one.process) & ports_of(other.process)
        told = [{ask(child, body)["weights_sha256"] for body in bodies} for child in (one, other)]
        assert [len(shas) for shas in told] == [1, 1]
        assert told[0] != told[1]


def ports_of(process):
    """Return the ports at which the descendants of a process listen."""
    return set().union(*map(listening, process.children(recursive=True)))


def listening(process):
    """Return the ports at which a process listens, none where it has ended."""
    try:
        links = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return set()
    return {link.laddr.port for link in links if link.status == psutil.CONN_LISTEN}


def find_listeners(child, within_s=30.0):
    """The descendants that listen at a service's port; HAProxy may be taking over itself."""
    end, port = time.monotonic() + within_s, chaos.urlsplit(child.url).port
    while time.monotonic() < end:
        family = child.process.children(recursive=True)
        if found := [process for process in family if port in listening(process)]:
            return found
        time.sleep(0.5)
    pytest.fail("nobody listens")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_port_in_use_is_an_error_that_says_what_to_do(child, tiny_run):
    import subprocess

    port = child.url.rpartition(":")[2]
    command = [sys.executable, "-m", "xmoe", "serve", str(tiny_run), "--port", port]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert found.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use" in found.stderr
    assert f"--port {int(port) + 1}" in found.stderr
