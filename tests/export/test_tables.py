"""Prices and costs reach the reader as the router has them."""

import pytest

from tests.fixtures.closed_runs import closed_config, closed_model
from xmoe.export.tables import describe_router


@pytest.mark.parametrize(
    ("routing", "costs", "first_most"),
    [
        ({}, [0.0, 1.0, 3.0, 7.0], 2),
        ({"costs_ms": ()}, [0.0, 1.0, 2.0, 3.0], 2),
        ({"k_price": -1e4}, [0.0, 1.0, 3.0, 7.0], 3),
    ],
)
def test_the_router(routing, costs, first_most):
    config = closed_config(**routing)
    model = closed_model(config)
    record = describe_router(model.router, config.routing, model.first_most)
    assert (record["costs"], record["first_most"]) == (costs, first_most)
    assert record["price"] == config.routing.k_price
    assert record["temperatures"] == [1.0, 0.9, 0.8, 0.7]
    assert len(record["weights"]) == len(record["shares"]) == 4
