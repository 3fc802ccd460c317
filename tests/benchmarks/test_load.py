"""The load generator counts what it sends and what comes back."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import Load


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status, degraded = 200, False

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"degraded": self.degraded}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        return


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "degraded", "outcome"),
    [(200, False, "200"), (200, True, "200 degraded"), (503, False, "503")],
)
def test_outcomes_are_counted(url, monkeypatch, status, degraded, outcome):
    monkeypatch.setattr(Handler, "status", status)
    monkeypatch.setattr(Handler, "degraded", degraded)
    found = Load(url, b"x").run(2, 0.3, warm_up_s=0.05)
    assert set(found["outcomes"]) == {outcome}
    assert found["outcomes"][outcome] > 5
    assert (found["per_second"] > 0) == (status == 200)


def test_turns_add_up_until_they_are_forgotten(url):
    target = Load(url, b"x")
    first = target.run(1, 0.1, warm_up_s=0.0)["outcomes"]["200"]
    both = target.run(1, 0.1, warm_up_s=0.0)["outcomes"]["200"]
    assert 0 < first < both == len(target.latencies_ms)
    target.forget()
    assert target.latencies_ms == []
    assert target.run(1, 0.1, warm_up_s=0.0)["outcomes"]["200"] < both


def test_nobody_there_is_an_outcome():
    found = Load("http://127.0.0.1:9", b"x").run(1, 0.05, warm_up_s=0.0)
    assert set(found["outcomes"]) == {"ConnectionRefusedError"}
