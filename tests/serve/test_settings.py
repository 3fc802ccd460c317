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


def test_token_from_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    assert read_token(HttpSettings(token_file=str(path))) == TOKEN


@pytest.mark.parametrize("text", ["", "short", "two\nlines of a token", "\u00e9" * 20])
def test_token_that_protects_nothing_is_refused(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match="16"):
        read_token(HttpSettings(token_file=str(path)))


def test_missing_token_file_is_an_error_not_an_open_door(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(HttpSettings(token_file=str(tmp_path / "none")))


def test_token_from_the_environment(monkeypatch):
    monkeypatch.setenv("XMOE_TOKEN", TOKEN)
    assert read_token(HttpSettings()) == TOKEN
    monkeypatch.delenv("XMOE_TOKEN")
    assert read_token(HttpSettings()) is None
