"""Spans of requests, rounds and experts: how they hang together, and that none is made unasked."""

import asyncio
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.base.errors import ConfigError
from xmoe.serve.experts.expert import Weights
from xmoe.serve.experts.expert_replica import ExpertReplica
from xmoe.serve.experts.local import to_arrays
from xmoe.serve.start.build import build
from xmoe.serve.telemetry import traces

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture
def spans(monkeypatch):
    """The function that returns the spans that have ended so far."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "TRACER", provider.get_tracer("xmoe"))
    return exporter.get_finished_spans


def parents(found):
    """The name of each span's parent by its own name; None where that is elsewhere."""
    names = {span.context.span_id: span.name for span in found}
    return {span.name: span.parent and names.get(span.parent.span_id) for span in found}


async def settle(reply):
    """A reply once the spans of its rounds have ended."""
    found = await reply
    await asyncio.sleep(0.05)
    return found


def test_a_request_its_round_and_its_experts_are_one_trace(spans, ask_app, serve_run, wav, sound):
    async def script(send):
        body, query = wav(sound()), "k_max=2"
        return await settle(send("POST", "/v1/classify", body=body, query=query, headers=PARENT))

    reply = ask_app(serve_run(), script)
    asked = [use["name"] for use in reply.json()["experts"]]
    assert len(asked) == 2
    assert parents(spans()) == {
        "POST /v1/classify": None,
        "plan": "POST /v1/classify",
        "round 1": "plan",
        **{f"expert {name}": "round 1" for name in asked},
    }
    assert {format(span.context.trace_id, "032x") for span in spans()} == {TRACE}
    by_name = {span.name: span for span in spans()}
    request = by_name["POST /v1/classify"].attributes
    assert request["xmoe.request_id"] == reply.headers["x-request-id"]
    assert request["xmoe.status"] == 200
    assert by_name[f"expert {asked[0]}"].attributes["xmoe.outcome"] == "ok"
    ends = [by_name[f"expert {name}"].end_time for name in asked]
    assert by_name["round 1"].end_time >= max(ends)


def test_the_second_round_is_told_apart(spans, ask_app, serve_run, closed_run, wav, sound):
    async def script(send):
        for seed in range(6):
            await settle(send("POST", "/v1/classify", body=wav(sound(1.0, seed=seed))))

    ask_app(serve_run(run=closed_run), script)
    rounds = [span for span in spans() if span.name == "round 2"]
    assert rounds
    assert parents(spans())["round 2"] == "POST /v1/classify"


def test_a_micro_batch_is_linked_to_all_its_requests(spans, ask_app, serve_run, wav, sound):
    async def script(send):
        body = wav(sound())
        await asyncio.gather(*(settle(send("POST", "/v1/classify", body=body)) for _ in range(4)))

    ask_app(serve_run(), script)
    requests = {s.context.span_id for s in spans() if s.name == "POST /v1/classify"}
    plans = [span for span in spans() if span.name == "plan"]
    assert len(requests) == 4
    assert len(plans) < 4
    told = [{p.parent.span_id} | {link.context.span_id for link in p.links} for p in plans]
    assert set().union(*told) == requests
    assert sum(map(len, told)) == 4


def test_a_failure_says_so(spans, ask_app, serve_run, wav, sound):
    async def broken(request, budget_s):
        raise RuntimeError("gone")

    async def script(send):
        return await settle(send("POST", "/v1/classify", body=wav(sound()), query="k_max=3"))

    ask_app(serve_run({"low": broken}), script)
    found = next(span for span in spans() if span.name == "expert low")
    assert found.attributes["xmoe.outcome"] == "error"
    assert not found.status.is_ok


def test_an_expert_goes_on_with_the_trace_of_its_caller(spans, closed_run, closed_in_process):
    specs, heard = closed_in_process.hear(make_sound(1.0), RATE_HZ)
    model, routing = closed_in_process.model, closed_in_process.config.routing
    request = model.requests(*model.prepare(specs, routing, sound=heard, k=2))[1]
    replica = ExpertReplica({"run": str(closed_run)}, request.name)
    weights = Weights(str(closed_run), "best", replica._versions.own.weights_sha256)

    async def call():
        with traces.span_of_request("ask", [], "id"):
            carrier = traces.give_on()
        await replica.infer(to_arrays(request), 5.0, weights)
        await replica.infer(to_arrays(request), 5.0, weights, carrier)

    asyncio.run(call())
    assert parents(spans()) == {"ask": None, f"infer {request.name}": "ask"}


def test_probes_and_pages_leave_no_span(spans, ask):
    for path in ("/healthz", "/readyz", "/", "/page/page.js"):
        assert ask("GET", path).status == 200
    assert spans() == ()


def test_unless_asked_nothing_is_recorded(monkeypatch, ask, wav, sound):
    for name in traces.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    traces.send_traces()
    assert traces.TRACER is None
    assert traces.give_on() == {}
    reply = ask("POST", "/v1/classify", body=wav(sound()), headers=PARENT)
    assert reply.status == 200


def test_traces_that_cannot_be_sent_are_refused_before_anything_starts(monkeypatch, tiny_run):
    monkeypatch.setenv(traces.ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="traces cannot be sent") as refused:
        build({"run": str(tiny_run)})
    assert "xmoe[otel]" in refused.value.mend
    assert refused.value.where == traces.ENDPOINT


def test_they_are_sent_to_the_endpoint(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    monkeypatch.setenv(traces.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(traces, "TRACER", None)
    traces.send_traces()
    assert traces.TRACER is not None
