"""Power of every front end is that of the run's own code, for clips of any length."""

import numpy as np
import pytest
import torch

from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.base.config import SpectroConfig
from xmoe.export.tables import describe_frontend
from xmoe.frontend.registry import FRONTENDS, build_frontend
from xmoe_lite.frontend import Frontend, next_smooth


@pytest.mark.parametrize("name", sorted(FRONTENDS))
@pytest.mark.parametrize("seconds", [0.07, 0.4])
def test_power_is_the_same(name, seconds):
    config = SpectroConfig(
        frontend=name, sample_rate_hz=RATE_HZ, fmin_hz=60.0, fmax_hz=3900.0, segment_s=0.4
    )
    frontend = build_frontend(config)
    samples = make_sound(seconds, seed=2)
    expected = frontend.power(torch.from_numpy(samples)[None])[0].numpy()
    found = Frontend(*describe_frontend(frontend)).power(samples)
    assert found.shape == expected.shape == (64, len(samples) // 160 + 1)
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max(), rtol=1e-3)


def test_smooth_numbers():
    assert [next_smooth(least) for least in (1, 7, 11, 31)] == [1, 8, 12, 32]
    assert next_smooth(10, (3, 5)) == 15
