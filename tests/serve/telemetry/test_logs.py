"""Lines go through Serve's handlers with the request id that the client was told."""

import io
import json
import logging

import pytest
from ray._common.formatters import JSONFormatter
from ray.serve._private.logging_utils import ServeContextFilter, ServeLogAttributeRemovalFilter

from xmoe.serve.telemetry.logs import ACCESS, OURS, REQUEST_ID, SERVE, log_through_serve

TOKEN = "t" * 20


@pytest.fixture
def lines():
    """The function that returns what Serve's own JSON handler has written, as records."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    handler.addFilter(ServeContextFilter())
    handler.addFilter(ServeLogAttributeRemovalFilter())
    serve, ours = logging.getLogger(SERVE), logging.getLogger(OURS)
    before, serve.handlers = serve.handlers, [handler]
    log_through_serve(application="birds", deployment="router", replica="r1")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    serve.handlers, ours.handlers, ours.propagate = before, [], True
    ACCESS.setLevel(logging.NOTSET)


def test_a_line_has_level_replica_and_request(lines):
    reset = REQUEST_ID.set("abc")
    logging.getLogger("xmoe.serve").warning("expert %s failed", "low")
    REQUEST_ID.reset(reset)
    logging.getLogger("xmoe.serve").error("no request")
    first, second = lines()
    assert (first["message"], first["levelname"]) == ("expert low failed", "WARNING")
    assert (first["request_id"], first["application"], first["replica"]) == ("abc", "birds", "r1")
    assert "request_id" not in second
    assert "skip_context_filter" not in first


def test_each_request_leaves_one_line_with_its_id_but_probes_and_pages(lines, ask, wav, sound):
    replies = [
        ask("POST", "/v1/classify", body=wav(sound()), token=TOKEN, headers={"X-API-Key": TOKEN}),
        ask("POST", "/v1/classify", body=b"no sound", token=TOKEN, headers={"X-API-Key": TOKEN}),
        ask("GET", "/v1/model", token=TOKEN),
        ask("GET", "/healthz", token=TOKEN),
        ask("GET", "/page/ops.js", token=TOKEN),
    ]
    assert [reply.status for reply in replies] == [200, 415, 401, 200, 200]
    told = [line for line in lines() if "status" in line]
    assert [(line["status"], line["route"], line["token"]) for line in told] == [
        (200, "/v1/classify", "token"),
        (415, "/v1/classify", "token"),
        (401, "/v1/model", "-"),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies[:3]]
    assert [line["request_id"] for line in told] == ids
    assert all(line["milliseconds"] >= 0.0 for line in told)
    refused = [line for line in lines() if line["message"].startswith("refused")]
    assert [line["request_id"] for line in refused] == ids[2:]
    assert TOKEN not in json.dumps(lines())


def test_without_it_requests_leave_no_line(ask, caplog):
    with caplog.at_level(logging.WARNING):
        assert ask("GET", "/v1/model").status == 200
    assert not ACCESS.isEnabledFor(logging.INFO)
    assert [one for one in caplog.records if one.name == ACCESS.name] == []
