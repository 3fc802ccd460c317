"""The schema of the API: routes, examples, and no page that loads scripts from elsewhere."""

import pytest

from xmoe.serve.settings import HttpSettings

PATHS = {
    "/healthz",
    "/readyz",
    "/v1/classify",
    "/v1/classify/batch",
    "/v1/drift",
    "/v1/explain",
    "/v1/experts",
    "/v1/model",
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
