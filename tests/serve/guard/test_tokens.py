"""Tokens: one or several with names, from a file or the environment; scopes and quotas."""

import asyncio
import json
import logging

import pytest

from tests.serve.conftest import ask_asgi
from xmoe.base.errors import ConfigError
from xmoe.serve.guard.tokens import Allowance, Bucket, Keys, read_tokens, scope_of
from xmoe.serve.http.api import build_app
from xmoe.serve.settings import HttpSettings

TOKEN = "0123456789abcdef"
FIELD, BOSS = "f" * 16, "b" * 16
TABLE = {
    "field": {"token": FIELD, "scopes": ["ask"], "requests_per_s": 2.0, "audio_s_per_s": 1.0},
    "boss": {"token": BOSS},
}


@pytest.fixture(params=["file", "environment"])
def http_with(request, tmp_path, monkeypatch):
    """The function that gives settings whose token is a text, in a file or in the environment."""

    def make(text):
        if request.param == "environment":
            monkeypatch.setenv("XMOE_TOKEN", text)
            return HttpSettings()
        path = tmp_path / "token"
        path.write_text(text)
        return HttpSettings(token_file=str(path))

    return make


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f" {TOKEN}\r\n"])
def test_token_is_stripped(http_with, text):
    (allowance,) = read_tokens(http_with(text)).values()
    assert allowance.token.get_secret_value() == TOKEN
    assert allowance.scopes == {"ask", "explain", "correct", "admin"}


@pytest.mark.parametrize("text", ["\n", "short", "two\nlines of a token", "\u00e9" * 20])
def test_token_that_protects_nothing_is_refused(http_with, text):
    with pytest.raises(ConfigError, match="16"):
        read_tokens(http_with(text))


def test_empty_file_is_refused_and_an_empty_variable_is_none(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("")
    with pytest.raises(ConfigError, match="16"):
        read_tokens(HttpSettings(token_file=str(tmp_path / "token")))
    monkeypatch.setenv("XMOE_TOKEN", "")
    assert read_tokens(HttpSettings()) == {}
    monkeypatch.delenv("XMOE_TOKEN")
    assert read_tokens(HttpSettings()) == {}


def test_missing_token_file_is_an_error_not_an_open_door(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_tokens(HttpSettings(token_file=str(tmp_path / "none")))


@pytest.fixture
def table(http_with):
    """The allowances of a table as it is read."""
    return read_tokens(http_with(json.dumps(TABLE)))


def test_table_names_tokens_scopes_and_quotas(table):
    assert list(table) == ["field", "boss"]
    assert table["field"].scopes == {"ask"}
    assert (table["field"].requests_per_s, table["boss"].audio_s_per_s) == (2.0, None)
    assert FIELD not in repr(table)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "names no token"),
        ({"a": {"token": "short"}}, "the token of a must be"),
        ({"a": {"token": TOKEN}, "b": {"token": TOKEN}}, "the same token"),
        ({"a": {"token": TOKEN, "scopes": ["fly"]}}, "a.scopes"),
        ({"a": {"token": TOKEN, "requests_per_s": 0}}, "a.requests_per_s"),
        ({"a": {"token": TOKEN, "colour": 1}}, "a.colour"),
    ],
)
def test_table_that_is_wrong_is_refused_and_no_token_is_repeated(http_with, wrong, told):
    with pytest.raises(ConfigError, match=told) as refused:
        read_tokens(http_with(json.dumps(wrong)))
    assert TOKEN not in str(refused.value)


def test_table_that_is_no_json_is_refused(http_with):
    with pytest.raises(ConfigError, match="not JSON"):
        read_tokens(http_with("{" + TOKEN))


def test_every_token_is_compared_and_the_right_one_found(table, monkeypatch):
    from xmoe.serve.guard import tokens

    keys, compared = Keys(table), []
    same = tokens.hmac.compare_digest
    monkeypatch.setattr(
        tokens.hmac, "compare_digest", lambda a, b: compared.append(1) or same(a, b)
    )
    assert keys.find(FIELD.encode()).name == "field"
    assert keys.find(BOSS.encode()).name == "boss"
    assert keys.find(b"nothing") is None
    assert len(compared) == 3 * len(table)


def test_routes_need_scopes():
    assert scope_of("/v1/explain") == "explain"
    assert scope_of("/v1/corrections") == "correct"
    assert {scope_of(f"/v1/{name}") for name in ("experts", "drift", "ops")} == {"admin"}
    assert scope_of("/v1/classify") == scope_of("/v1/model") == scope_of("/v1/samples/0") == "ask"


def test_bucket_fills_with_time_and_a_debt_is_paid_off():
    now = [0.0]
    bucket = Bucket(2.0, lambda: now[0])
    for _ in range(4):
        assert bucket.wait_s(1.0) == 0.0
        bucket.take(1.0)
    assert bucket.wait_s(1.0) == 0.5
    now[0] = 0.5
    assert bucket.wait_s(1.0) == 0.0
    bucket.take(11.0)
    assert bucket.wait_s(0.0) == 5.0
    now[0] = 100.0
    assert bucket.wait_s(4.0) == 0.0
    assert Bucket(None, lambda: 0.0).wait_s(1e9) == 0.0


def send_all(service, allowances, requests):
    """The replies of one application to requests (method, path, token, more)."""

    async def run():
        app = build_app(service, tokens=allowances)
        return [
            await ask_asgi(app, method, path, headers={"X-API-Key": token}, **more)
            for method, path, token, more in requests
        ]

    return asyncio.run(run())


def test_scope_decides_and_each_refusal_leaves_a_line(serve_run, table, wav, sound, caplog):
    body = {"body": wav(sound())}
    asks = {**body, "query": "explain=true"}
    with caplog.at_level(logging.WARNING, "xmoe.audit"):
        replies = send_all(
            serve_run(),
            {name: one.model_copy(update={"requests_per_s": None}) for name, one in table.items()},
            [
                ("POST", "/v1/classify", FIELD, body),
                ("GET", "//v1/experts/", FIELD, {}),
                ("PUT", "/v1//explain", FIELD, body),
                ("POST", "/v1/classify", FIELD, asks),
                ("GET", "/v1/experts", BOSS, {}),
                ("POST", "/v1/explain", BOSS, body),
                ("GET", "/v1/model", "wrong", {}),
                ("GET", "/v1/experts\n", FIELD, {}),
                ("GET", "/x\nrefused", "wrong", {}),
            ],
        )
    assert [reply.status for reply in replies] == [200, 403, 403, 403, 200, 200, 401, 403, 401]
    assert replies[1].json()["hint"] == "use a token with the scope admin"
    assert replies[3].json()["code"] == "no_scope"
    lines = [record.getMessage() for record in caplog.records if record.name == "xmoe.audit"]
    told = [line.split(" ", 2)[2] for line in lines]
    assert told == [
        "token=field route=/v1/experts: no_scope",
        "token=field route=/v1/explain: no_scope",
        "token=field route=/v1/classify: no_scope",
        "token=- route=/v1/model: unauthorised",
        "token=field route=/v1/experts: no_scope",
        "token=- route=/x%0Arefused: unauthorised",
    ]
    assert lines[0].split()[1] == replies[1].json()["request_id"]
    assert FIELD not in caplog.text


def test_more_requests_than_the_quota_are_sent_away(serve_run, table):
    slow = table | {"field": table["field"].model_copy(update={"requests_per_s": 0.02})}
    asked = [("GET", "/v1/model", FIELD, {})] * 3 + [("GET", "/v1/model", BOSS, {})]
    replies = send_all(serve_run(), slow, asked)
    assert [reply.status for reply in replies] == [200, 429, 429, 200]
    assert replies[1].json()["code"] == "quota"
    assert 1 <= int(replies[1].headers["retry-after"]) <= 50


def test_more_sound_than_the_quota_is_sent_away(serve_run, wav, sound):
    allowances = {"field": Allowance(token=FIELD, audio_s_per_s=0.1)}
    body = {"body": wav(sound(2.0))}
    replies = send_all(serve_run(), allowances, [("POST", "/v1/classify", FIELD, body)] * 2)
    assert [reply.status for reply in replies] == [200, 429]
    assert 5 <= int(replies[1].headers["retry-after"]) <= 10
