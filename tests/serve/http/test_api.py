"""The schema of the API: routes, examples, and no page that loads scripts from elsewhere."""

import gzip
import json

import pytest
from starlette.testclient import TestClient

from xmoe.serve.http import api
from xmoe.serve.http.api import build_app
from xmoe.serve.settings import HttpSettings

PATHS = {
    "/healthz",
    "/readyz",
    "/v1/classify",
    "/v1/classify/batch",
    "/v1/corrections",
    "/v1/drift",
    "/v1/explain",
    "/v1/experts",
    "/v1/model",
    "/v1/ops",
    "/v1/samples/{place}",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{name}",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/ready",
}


def test_schema_lists_the_routes_with_examples(ask):
    schema = ask("GET", "/openapi.json").json()
    assert set(schema["paths"]) == PATHS
    content = schema["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["examples"]
    assert schema["components"]["schemas"]["ClassifyAnswer"]["examples"]


def test_schema_asks_for_the_token_on_every_route_but_health(ask):
    schema = ask("GET", "/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "key"}
    assert schema["security"][:2] == [{"bearer": []}, {"key": []}]
    unasked = {
        path for path, item in schema["paths"].items() if item.get("get", {}).get("security") == []
    }
    assert unasked == {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}


def test_no_page_of_documentation(ask):
    assert ask("GET", "/docs").status == 404
    assert ask("GET", "/redoc").status == 404


def test_defect_of_ours_tells_nothing_of_itself(ask, serve_run, wav, sound, monkeypatch):
    service = serve_run()

    async def broken(*_):
        raise KeyError("a secret of this machine")

    monkeypatch.setattr(service, "classify_bytes", broken)
    reply = ask("POST", "/v1/classify", service=service, body=wav(sound()), fails=True)
    assert (reply.status, reply.json()["code"]) == (500, "internal")
    assert "secret" not in reply.body.decode()


HERE, THERE = "https://birds.example", "https://elsewhere.example"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize(
    ("named", "origin", "status"), [((HERE,), HERE, 200), ((HERE,), THERE, 400), ((), HERE, 401)]
)
def test_a_browser_learns_whether_another_site_may_ask(ask, serve_run, named, origin, status):
    service = serve_run(http=HttpSettings(allow_origins=named))
    headers = PREFLIGHT | {"origin": origin}
    reply = ask("OPTIONS", "/v1/classify", service=service, token="t" * 16, headers=headers)
    allowed = reply.headers.get("access-control-allow-origin")
    assert (reply.status, allowed) == (status, origin if status == 200 else None)


def test_another_site_still_needs_the_token_and_may_read_what_it_is_told(ask, serve_run):
    service = serve_run(http=HttpSettings(allow_origins=(HERE,)))
    reply = ask("GET", "/v1/model", service=service, token="t" * 16, headers={"origin": HERE})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (401, HERE)
    assert "access-control-allow-origin" not in ask("GET", "/healthz", service=service).headers


@pytest.mark.parametrize("origin", ["birds.example", "https://birds.example/page", ""])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(ValueError, match="pattern"):
        HttpSettings(allow_origins=(origin,))


def test_options_and_refusals_name_the_methods(ask):
    for path, methods in (
        ("/v1/classify", "OPTIONS, POST, PUT"),
        ("/v1/model", "GET, HEAD, OPTIONS"),
        ("/v2/models/xmoe/infer", "OPTIONS, POST, PUT"),
    ):
        asked = ask("OPTIONS", path)
        assert (asked.status, asked.headers["allow"], asked.body) == (204, methods, b"")
        refused = ask("DELETE", path)
        assert (refused.status, refused.headers["allow"]) == (405, methods)
        assert refused.json()["hint"] == f"this route has {methods}"
    assert ask("OPTIONS", "/nothing").status == 404


@pytest.mark.parametrize("path", ["/v1/classify/", "//v1//classify"])
def test_a_slash_too_many_is_no_redirect_to_another_address(ask, wav, sound, path):
    assert ask("POST", path, body=wav(sound())).status == 200


def test_a_file_may_be_put(ask, wav, sound):
    assert ask("PUT", "/v1/classify", body=wav(sound())).json()["label"]


FORWARDED = {
    "Forwarded": "for=1.2.3.4;host=evil.example;proto=https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-For": "1.2.3.4",
}


@pytest.mark.parametrize(
    ("prefix", "named", "servers"),
    [
        ("", "", None),
        ("/birds", "", [{"url": "/birds"}]),
        ("/birds", "https://a.example/sounds/", [{"url": "https://a.example/sounds"}]),
    ],
)
def test_links_keep_to_the_prefix_and_believe_no_header(serve_run, prefix, named, servers):
    service = serve_run(http=HttpSettings(public_url=named))
    app = build_app(service)
    client = TestClient(app, "http://localhost", root_path=prefix, follow_redirects=False)
    with client:
        schema = client.get(f"{prefix}/openapi.json", headers=FORWARDED)
        assert schema.json().get("servers") == servers
        assert "evil" not in schema.text
        bare = client.get(prefix or "/", headers=FORWARDED)
        assert (bare.status_code, bare.headers.get("location")) == (
            (307, "birds/") if prefix else (200, None)
        )
        assert client.get(f"{prefix}/").headers["content-type"].startswith("text/html")
        assert client.get(f"{prefix}/v1/model/").status_code == 200


@pytest.mark.parametrize("address", ["birds.example", "https://a.example/?x", "ftp://a.example"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="pattern"):
        HttpSettings(public_url=address)


@pytest.mark.parametrize(
    ("asked", "coding"),
    [("gzip, deflate", "gzip"), ("gzip;q=0", None), ("gzip; q=0, *", None), ("br", None)],
)
def test_long_answers_are_compressed_where_that_is_asked_for(
    ask, serve_run, monkeypatch, asked, coding
):
    monkeypatch.setattr(api, "GZIP_BYTES", 100)
    service, headers = serve_run(), {"Accept-Encoding": asked}
    reply = ask("GET", "/v1/model", service=service, headers=headers)
    assert reply.headers.get("content-encoding") == coding
    plain = gzip.decompress(reply.body) if coding else reply.body
    assert json.loads(plain)["name"] == "xmoe"
    assert int(reply.headers["content-length"]) == len(reply.body)
    page = ask("GET", "/", service=service, headers=headers)
    assert "content-encoding" not in page.headers


def test_short_answers_stay_as_they_are(ask):
    assert "content-encoding" not in ask("GET", "/v2", headers={"Accept-Encoding": "gzip"}).headers
