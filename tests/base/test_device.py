"""A device that is not there is told with the ones that are."""

import pytest
import torch

from xmoe.base.device import choose_device
from xmoe.base.errors import ConfigError


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: int(there))
        assert choose_device("auto") == torch.device(name)


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:1", 1), ("gpu", 1), ("cuda:x", 1)])
def test_what_is_not_there_is_refused(monkeypatch, name, gpus):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match="--device cpu or auto"):
        choose_device(name)
