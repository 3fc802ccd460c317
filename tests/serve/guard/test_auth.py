"""The token: on every route but health, in a header only, whatever else is asked."""

import asyncio

import pytest
from starlette.responses import JSONResponse

from xmoe.serve.guard.auth import Door, tidy
from xmoe.serve.guard.tokens import single
from xmoe.serve.settings import HttpSettings

TOKEN = "0123456789abcdef0123"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"X-API-Key": "\xff\xfe"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"X-API-Key": TOKEN}, 200),
    ],
)
def test_token(ask, headers, status):
    reply = ask("GET", "/v1/model", token=TOKEN, headers=headers)
    assert reply.status == status
    if status == 401:
        assert reply.json()["code"] == "unauthorised"
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path", ["/v1/classify", "/v1/experts", "/openapi.json", "/v2/models/xmoe", "/nothing"]
)
def test_every_route_asks(ask, path):
    assert ask("GET", path, token=TOKEN).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_health_does_not_ask(ask, path):
    assert ask("GET", path, token=TOKEN).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_health_may_be_asked_with_head(ask, path):
    assert ask("HEAD", path, token=TOKEN).status == 200


@pytest.mark.parametrize(("path", "status"), [("/v1/model", 200), ("/v1/classify", 405)])
def test_head_asks_what_get_would(ask, path, status):
    headers = {"X-API-Key": TOKEN}
    assert ask("HEAD", path, token=TOKEN).status == 401
    assert ask("HEAD", path, token=TOKEN, headers=headers).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000")),
        *((host, 200) for host in ("birds.example", "sound.example:8443")),
        *((host, 421) for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example")),
        *((host, 421) for host in ("localhost@evil.example", "[::1", "", "10.0.0.7:8000")),
    ],
)
def test_without_a_token_a_request_names_this_machine_or_a_host_of_the_settings(
    ask, serve_run, caplog, host, status
):
    http = HttpSettings(allow_hosts=("birds.example",), public_url="https://sound.example/a")
    service = serve_run(http=http)
    reply = ask("GET", "/v1/model", service=service, headers={"Host": host})
    assert reply.status == status
    assert ask("GET", "/healthz", service=service, headers={"Host": host}).status == 200
    if status == 421:
        assert reply.json()["code"] == "foreign_host"
        assert "allow_hosts" in reply.json()["hint"]
        assert "route=/v1/model: foreign_host" in caplog.text


def test_any_host_will_do_where_it_is_allowed_or_a_token_is_set(ask, serve_run):
    headers = {"Host": "evil.example"}
    service = serve_run(http=HttpSettings(allow_hosts=("*",)))
    assert ask("GET", "/v1/model", service=service, headers=headers).status == 200
    headers |= {"X-API-Key": TOKEN}
    assert ask("GET", "/v1/model", token=TOKEN, headers=headers).status == 200


@pytest.mark.parametrize("host", ["https://a.example", "a.example/b", "A.example", ""])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValueError, match="pattern"):
        HttpSettings(allow_hosts=(host,))


def test_key_in_the_query_does_not_count(ask):
    assert ask("GET", "/v1/model", token=TOKEN, query=f"token={TOKEN}").status == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/a/healthz", 200),
        ("/a//healthz/", 200),
        ("/a", 200),
        ("/a/", 200),
        ("/a/v1/model", 401),
        ("/a/v1/model/healthz", 401),
        ("/healthz", 200),
    ],
)
def test_routes_begin_below_the_prefix(path, status):
    async def app(scope, receive, send):
        await JSONResponse({})(scope, receive, send)

    scope = {"type": "http", "path": path, "root_path": "/a", "headers": []}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Door(app, tokens=single(TOKEN))(scope, None, send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/a//v1/model/", "/a/v1/model"),
        ("/a/", "/a/"),
        ("/a", "/a"),
        ("/ab/", "/ab/"),
        *((f"/a/v1/ops{ending}", "/a/v1/ops") for ending in ("\n", "\n\n", "\n/", "/\n")),
    ],
)
def test_slashes_too_many_are_left_out_below_the_prefix(path, seen):
    scope = tidy({"type": "http", "method": "PUT", "path": path, "root_path": "/a"})
    assert (scope["path"], scope["method"]) == (seen, "POST")
