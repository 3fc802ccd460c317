"""The schema of the API: routes, examples, and no page that loads scripts from elsewhere."""

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
