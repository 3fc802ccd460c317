"""Settings: unknown names are refused, and one expert may differ."""

import pytest
from pydantic import ValidationError

from xmoe.serve.settings import ExpertDeployment, ServeSettings


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
