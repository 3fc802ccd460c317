"""Who is asked, and what stands in for an expert that gives no numbers."""

import numpy as np
import pytest

from tests.fixtures.closed_runs import closed_config, closed_model
from xmoe.export.tables import describe_router
from xmoe_lite.router import Router

STEM = np.log(np.array([0.5, 0.3, 0.2], np.float32))
SURE = np.log(np.array([0.98, 0.01, 0.01], np.float32))
NOTHING = np.full(3, np.nan, np.float32)


@pytest.fixture
def make_router():
    def make(**routing):
        config = closed_config(**routing)
        model = closed_model(config)
        record = describe_router(model.router, config.routing, model.first_most)
        return Router(record, exclusive=True), np.zeros(model.router.mean.shape[1], np.float32)

    return make


def ask_of(replies):
    asked = []

    def ask(index):
        asked.append(index)
        return replies[index]

    return ask, asked


def test_a_sure_answer_ends_the_asking(make_router):
    router, evidence = make_router()
    ask, asked = ask_of([SURE] * 3)
    said = router.answer(STEM, evidence, ask)
    assert (said.k, said.heard, asked) == (2, 2, [0, 1])
    shares = np.array([0.4, 0.6, 0.5]) / 1.5
    np.testing.assert_allclose(said.logits, shares[0] * STEM + (1 - shares[0]) * SURE, rtol=1e-5)


def test_a_high_price_leaves_it_to_the_stem(make_router):
    router, evidence = make_router(k_price=10.0)
    ask, asked = ask_of([SURE] * 3)
    said = router.answer(STEM, evidence, ask)
    assert (said.k, said.heard, asked, said.logits.tolist()) == (0, 0, [], STEM.tolist())


def test_where_the_heavier_half_is_silent_others_are_asked(make_router):
    router, evidence = make_router()
    ask, asked = ask_of([NOTHING, SURE, SURE])
    said = router.answer(STEM, evidence, ask)
    assert (asked, said.heard) == ([0, 1, 2], 2)
    assert np.isfinite(said.logits).all()


def test_where_nobody_answers_the_stem_does(make_router):
    router, evidence = make_router()
    ask, asked = ask_of([NOTHING] * 3)
    said = router.answer(STEM, evidence, ask)
    assert (asked, said.heard, said.logits.tolist()) == ([0, 1, 2], 0, STEM.tolist())


def test_all_are_asked_at_once_where_no_price_is_paid(make_router):
    router, evidence = make_router(k_price=-1e4)
    assert router.answer(STEM, evidence, ask_of([STEM] * 3)[0]).k == 3
