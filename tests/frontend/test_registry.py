"""Names of front ends become the front ends."""

import typing

import pytest

from xmoe.base.config import FrontendName, SpectroConfig
from xmoe.base.errors import ConfigError
from xmoe.cli.train import FRONTENDS as OFFERED
from xmoe.frontend.registry import FRONTENDS, build_frontend


def test_every_name_that_a_config_may_hold_is_known():
    names = set(FRONTENDS)
    assert names == set(typing.get_args(FrontendName)) == set(OFFERED)


@pytest.mark.parametrize("name", FRONTENDS)
def test_a_name_gives_its_own_class_and_keeps_the_config(name):
    config = SpectroConfig(frontend=name)
    frontend = build_frontend(config)
    assert type(frontend) is FRONTENDS[name]
    assert frontend.config is config


def test_an_unknown_front_end_names_the_known_ones():
    config = SpectroConfig().model_copy(update={"frontend": "wavelets"})
    with pytest.raises(ConfigError, match="choose one of stft, logmel"):
        build_frontend(config)
