"""How sure a gain must be: mixtures are judged on parts that their search did not see."""

import numpy as np
import pytest

from tests.benchmarks.conftest import load_benchmark
from xmoe.base.task import task_of
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.training.stack import HeldOut


@pytest.fixture(scope="module")
def module():
    return load_benchmark("selection")


@pytest.fixture(scope="module")
def held() -> HeldOut:
    """Two experts that know something each, and five that know nothing."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    rows = np.eye(3)[truth]
    logits = {name: rng.normal(size=(400, 3)) for name in [STEM_NAME, *"vwxyz"]}
    logits |= {name: 1.5 * rows + rng.normal(size=(400, 3)) for name in "ab"}
    return HeldOut(logits, rows, np.repeat(np.arange(20), 20), task_of("single_label"))


def test_a_lower_bar_takes_no_fewer_and_the_good_ones_are_always_taken(module, held):
    costs = dict.fromkeys("abvwxyz", 1.0)
    found = [module.judge(held, costs, bar) for bar in module.BARS]
    counts = [count for count, _, _ in found]
    assert counts == sorted(counts)
    assert counts[0] >= 2.0
    assert all(loss < np.log(3) and right > 0.7 for _, loss, right in found)


def test_what_knows_nothing_gains_nothing_where_the_search_did_not_look(module, held):
    """Judged on the parts that it saw, seven experts could not be worse than two."""
    few = module.judge(held, dict.fromkeys("ab", 1.0), 0.0)
    many = module.judge(held, dict.fromkeys("abvwxyz", 1.0), 0.0)
    assert many[0] > few[0]
    assert many[1] > few[1] - 0.01
