"""Settings: unknown names refused, tokens from a file or the environment."""

import pytest
from pydantic import ValidationError

from xmoe.base.errors import ConfigError
from xmoe.serve.settings import ExpertDeployment, HttpSettings, ServeSettings, read_token

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "values",
    [{"colour": 1}, {"router": {"speed": 1}}, {"topology": "ring"}, {"expert": {"threads": 0}}],
)
def test_unknown_or_wrong_settings_are_refused(values):
    with pytest.raises(ValidationError):
        ServeSettings(run="run", **values)


def test_one_expert_may_differ():
    settings = ServeSettings(run="run", experts={"low": {"max_replicas": 3}})
    assert settings.deployment_of("low").max_replicas == 3
    assert settings.deployment_of("high") == ExpertDeployment()


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
    assert read_token(http_with(text)) == TOKEN


@pytest.mark.parametrize("text", ["\n", "short", "two\nlines of a token", "\u00e9" * 20])
def test_token_that_protects_nothing_is_refused(http_with, text):
    with pytest.raises(ConfigError, match="16"):
        read_token(http_with(text))


def test_empty_file_is_refused_and_an_empty_variable_is_none(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("")
    with pytest.raises(ConfigError, match="16"):
        read_token(HttpSettings(token_file=str(tmp_path / "token")))
    monkeypatch.setenv("XMOE_TOKEN", "")
    assert read_token(HttpSettings()) is None
    monkeypatch.delenv("XMOE_TOKEN")
    assert read_token(HttpSettings()) is None


def test_missing_token_file_is_an_error_not_an_open_door(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(HttpSettings(token_file=str(tmp_path / "none")))
