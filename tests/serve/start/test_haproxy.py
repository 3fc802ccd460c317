"""HAProxy keeps to the host it was given: its own pages are turned to loopback, others refused."""

import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
import requests

from xmoe.base.errors import ConfigError
from xmoe.serve.settings import ServeSettings
from xmoe.serve.start import haproxy
from xmoe.serve.start.haproxy import environment, keep_to
from xmoe.serve.start.session import choose_ingress, environment_of, serving

CONFIG = """\
global
    stats socket /tmp/admin.sock
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {where}:8000
listen stats
  bind *:8404
  stats enable
"""
needs_haproxy = pytest.mark.skipif(not haproxy.is_there(), reason="HAProxy did not come with Ray")


def test_own_pages_are_turned_to_loopback():
    kept = keep_to("127.0.0.1", CONFIG.format(where="127.0.0.1"))
    binds = [line.split()[1] for line in kept.splitlines() if line.split()[:1] == ["bind"]]
    assert binds == ["127.0.0.1:9101", "127.0.0.1:8000", "127.0.0.1:8404"]
    without = [line for line in kept.splitlines() if line.strip() not in haproxy.RULES]
    assert len(without) == CONFIG.count("\n")


def test_headers_that_ray_obeys_are_taken_out_of_what_clients_send():
    lines = keep_to("127.0.0.1", CONFIG.format(where="127.0.0.1")).splitlines()
    front = lines[lines.index("frontend http_frontend") : lines.index("listen stats")]
    removed = {line.split()[-1] for line in front if "del-header" in line}
    assert removed == set(haproxy.OBEYED)


@pytest.mark.parametrize("where", ["*", "0.0.0.0", "192.0.2.7", ""])
def test_listener_beyond_the_host_is_refused(where):
    with pytest.raises(ValueError, match="was to listen on"):
        keep_to("127.0.0.1", CONFIG.format(where=where))


def test_all_interfaces_where_they_were_asked_for():
    kept = keep_to("0.0.0.0", CONFIG.format(where="*"))
    assert "bind *:8000" in kept
    assert "bind 127.0.0.1:8404" in kept


def test_files_are_in_the_folder_and_the_starter_is_for_its_owner_only(tmp_path):
    values = environment(tmp_path, "127.0.0.1", 3660.0)
    starter = tmp_path / "haproxy"
    assert stat.S_IMODE(starter.stat().st_mode) == stat.S_IRWXU
    assert values["RAY_SERVE_HAPROXY_BINARY_PATH"] == str(starter)
    assert values["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "3660"
    paths = [v for k, v in values.items() if k.endswith(("_LOC", "SOCKET_PATH", "STATE_FILE"))]
    assert len(paths) == 4
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_ingress_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(haproxy, "find_binary", lambda: None)
    with pytest.raises(ConfigError, match="HAProxy is not installed"):
        choose_ingress("haproxy", "127.0.0.1")
    assert choose_ingress("auto", "127.0.0.1") == "python"


@needs_haproxy
def test_ingress_of_itself():
    assert choose_ingress("auto", "127.0.0.1") == "haproxy"
    assert choose_ingress("auto", "::1") == "python"
    assert choose_ingress("python", "127.0.0.1") == "python"


def test_environment_is_put_back(monkeypatch):
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = dict(os.environ)
    with environment_of("haproxy", "127.0.0.1", 60.0):
        assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert dict(os.environ) == before


def test_each_service_has_ports_of_its_own(tmp_path):
    values = environment(tmp_path, "127.0.0.1", 3660.0)
    ports = {key: int(value) for key, value in values.items() if key.endswith("_PORT")}
    assert len(ports) == len(set(ports.values())) == 3
    assert not set(ports.values()) & {8404, 8500, 9101}  # those that Ray gives every service


class Router(BaseHTTPRequestHandler):
    """Answers what it is sent, or dies of it, once it has read all."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.server.dies:
            self.server.deaths += 1
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def routers(*dying):
    """Have a router for each, which dies of what it is sent or answers."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Router) for _ in dying]
    with ThreadPoolExecutor(len(servers)) as pool:
        for server, dies in zip(servers, dying, strict=True):
            server.dies, server.deaths = dies, 0
            pool.submit(server.serve_forever, 0.05)
        yield servers
        for server in servers:
            server.shutdown()
            server.server_close()


FRONT = """\
global
    tune.bufsize {size}
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option redispatch 1
    retry-on {retry_on}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend routers
backend routers
    http-reuse always
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
"""


@contextmanager
def before(one, two, folder):
    """Put HAProxy before two routers as a service does; yields its port."""
    values, (port,) = environment(folder, "127.0.0.1", 60.0), haproxy.free_ports(1)
    text = FRONT.format(
        size=values["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"],
        retry_on=values["RAY_SERVE_HAPROXY_RETRY_ON"],
        port=port,
        one=one.server_port,
        two=two.server_port,
    )
    config = folder / "front.cfg"
    config.write_text(keep_to("127.0.0.1", text))
    with subprocess.Popen([haproxy.find_binary(), "-db", "-f", config]) as process:
        for _ in range(100):
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
        process.terminate()


@needs_haproxy
@pytest.mark.parametrize(
    ("path", "size", "lost"),
    [
        ("/v1/classify", 8_000, 0),
        ("/v1/classify", haproxy.HELD_BYTES, 0),
        ("/v1/classify", 2 * haproxy.HELD_BYTES, None),
        ("/v1/corrections", 8_000, None),
    ],
)
def test_what_a_dead_router_held_is_asked_again_where_it_may_be(tmp_path, path, size, lost):
    with routers(True, False) as (dying, other), before(dying, other, tmp_path) as port:
        statuses = []
        for _ in range(8):
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            with suppress(HTTPException, ConnectionError):
                # head and body apart, as most clients send them
                connection.request("POST", path, bytes(size))
                statuses.append(connection.getresponse().status)
            connection.close()
    assert dying.deaths > 0
    assert statuses.count(200) == 8 - (dying.deaths if lost is None else lost)


def listeners_of(process):
    """The (name, address, port) at which descendants of a process listen for HTTP."""
    return [
        (child.name(), link.laddr.ip, link.laddr.port)
        for child in process.children(recursive=True)
        for link in child.net_connections(kind="tcp")
        if link.status == psutil.CONN_LISTEN
    ]


def is_ours(port):
    """Whether the service, and not one of Ray's own pages, answers at a port of loopback."""
    try:
        reply = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
    except requests.RequestException:
        return False
    return b'"alive"' in reply.content


@needs_haproxy
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_service_is_reached_through_loopback_alone(tiny_run, wav, sound):
    settings = ServeSettings(run=str(tiny_run), topology="colocated")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(settings, host="127.0.0.1", port=port, ingress="haproxy") as url:
        reply = requests.post(f"{url}/v1/classify", data=wav(sound()), timeout=30)
        assert reply.status_code == 200
        listeners = listeners_of(psutil.Process())
        assert {port} < {p for name, _, p in listeners if "haproxy" in name}
        assert {ip for name, ip, _ in listeners if "haproxy" in name} == {"127.0.0.1"}
        answering = {ip for _, ip, p in listeners if is_ours(p)}
        assert answering == {"127.0.0.1"}
        strange = {"X-Request-Id": b"\xff\xfe", "X-Request-Timeout-Seconds": "0.000001"}
        assert requests.get(f"{url}/healthz", headers=strange, timeout=30).status_code == 200
