"""The router of a closed-form mixture: weights by depth, whom it asks first, what it promises."""

import numpy as np
import pytest
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig
from xmoe.glance.evidence import (
    NUM_CONCENTRATIONS,
    NUM_CONDITIONS,
    describe_saliency,
    measure_conditions,
)
from xmoe.mixture.combine import blend
from xmoe.mixture.promise_router import (
    GLANCED,
    PromiseRouter,
    describe_stem,
    prefix_sums,
    renew_belief,
    renew_evidence,
    tabulate_shares,
)
from xmoe.routing.promise import ANSWER_NUMBERS, Promise, Promises, describe_answer
from xmoe.routing.stack import Stack

STACKS = (
    Stack(weights={"stem": 0.5}),
    Stack(weights={"stem": 0.25, "broadband": 0.75}),
    Stack(weights={"stem": 0.2, "broadband": 0.4, "low": 0.6}),
)
ROWS, BATCH = 8, 5
WIDTH = 2 * ANSWER_NUMBERS + ROWS + NUM_CONCENTRATIONS + 2 + NUM_CONDITIONS


def make_promises(seed: int = 0) -> Promises:
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return rng.normal(size=shape)

    depths = tuple(
        Promise(
            mean=tuple(numbers(WIDTH)),
            scale=tuple(np.exp(numbers(WIDTH))),
            weights=tuple(map(tuple, 0.1 * numbers(3 - depth, WIDTH))),
            bias=tuple(numbers(3 - depth)),
        )
        for depth in range(3)
    )
    return Promises(order=("broadband", "low"), costs_ms=(1.0, 2.0), depths=depths, first_most=1)


def make_router(**changes) -> PromiseRouter:
    settings = {"num_classes": 3, "experts": cnn_specs("broadband", "low"), "k_max": 2}
    return PromiseRouter(ModelConfig(router="promise", **settings | changes), num_rows=ROWS)


@pytest.fixture
def router() -> PromiseRouter:
    """Return a router that knows two experts."""
    made = make_router()
    made.fill(STACKS, make_promises(), ("broadband", "low"))
    return made


def test_shares_of_those_asked_sum_to_one_and_the_others_can_stand_in():
    shares = tabulate_shares(STACKS, ("broadband", "low"))
    assert shares[0].tolist() == pytest.approx([1.0, 0.4 / 1.2, 0.6 / 1.2])
    assert shares[1].tolist() == pytest.approx([0.25, 0.75, 0.5])
    assert shares[2].tolist() == pytest.approx([0.2 / 1.2, 0.4 / 1.2, 0.6 / 1.2])
    assert prefix_sums(shares).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert tabulate_shares(STACKS, ("low", "new"))[2].tolist() == pytest.approx(
        [0.2 / 1.2, 0.6 / 1.2, 0.0]
    )


def test_a_fresh_router_counts_all_the_same_and_promises_one_half():
    fresh = make_router()
    assert fresh.shares.tolist() == [[pytest.approx(1 / 3)] * 3] * 3
    evidence = torch.full((1, WIDTH), 0.75)
    for depth in range(3):
        assert fresh.promise(evidence, depth).tolist() == [[0.0] * depth + [0.5] * (3 - depth)]
    assert (fresh.mean == 0).all()
    assert (fresh.scale == 1).all()
    assert "allowed" not in fresh.state_dict()


def test_experts_are_preferred_in_their_order_by_the_shares_of_the_table(router):
    gate, _ = router(torch.zeros(2, WIDTH))
    assert gate.tolist() == [pytest.approx(np.log([0.4 / 1.2, 0.6 / 1.2]))] * 2
    preference = router.prefer(gate)
    assert preference.ranking.tolist() == [[0.0, -1.0]] * 2
    shares = tabulate_shares(STACKS, ("broadband", "low"))
    assert preference.log_shares.shape == (2, 3, 2)
    torch.testing.assert_close(preference.log_shares.exp(), shares[:, 1:].expand(2, -1, -1))
    assert preference.stem_shares.tolist() == [pytest.approx([1.0, 0.25, 0.2 / 1.2])] * 2


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_belief_is_described_as_the_answer_of_the_stem_alone(task):
    known = make_router(task=task).task
    belief = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    logits = belief.clamp(1e-9, 1.0).log() if known.exclusive else torch.logit(belief, 1e-9)
    answer = describe_answer(logits[None], logits, known)
    described = describe_stem(belief)
    assert torch.isfinite(described).all()
    torch.testing.assert_close(described, torch.cat([answer, answer], 1))
    evidence = torch.arange(2.0 * WIDTH).view(2, WIDTH)
    renewed = renew_belief(evidence, belief)
    assert torch.equal(renewed[:, : 2 * ANSWER_NUMBERS], described)
    assert torch.equal(renewed[:, 2 * ANSWER_NUMBERS :], evidence[:, 2 * ANSWER_NUMBERS :])


@pytest.mark.parametrize("k", [0, 1, 2])
def test_stem_and_experts_count_what_the_stack_of_their_number_says(router, k):
    generator = torch.Generator().manual_seed(k)
    stem, experts = (torch.randn(s, generator=generator) for s in [(BATCH, 3), (2, BATCH, 3)])
    preference = router.prefer(torch.zeros(BATCH, 2))
    weights = preference.choose(torch.full((BATCH,), k))
    assert ((weights > 0) == torch.tensor([k > 0, k > 1])).all()
    mixed = blend(stem, experts, weights, preference.stem_shares[:, k])
    said = dict(zip(("stem", "broadband", "low"), [stem, *experts], strict=True))
    stack = STACKS[k].weights
    expected = sum(share * said[name] for name, share in stack.items()) / sum(stack.values())
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


def test_who_is_gone_is_replaced_by_the_next_with_its_own_share(router):
    preference = router.prefer(torch.zeros(1, 2)).without(torch.tensor([True, False]))
    assert preference.choose(torch.tensor([1])).tolist() == [[0.0, 1.0]]


def test_an_expert_without_weight_is_asked_all_the_same(router):
    stacks = (STACKS[0], Stack(weights={"stem": 1.0, "broadband": 0.0}), STACKS[2])
    router.fill(stacks, make_promises(), ("broadband", "low"))
    weights = router.prefer(torch.zeros(1, 2)).choose(torch.tensor([1]))
    assert weights.tolist() == [[1.0, 0.0]]


def test_masked_experts_are_never_asked():
    router = make_router(masked_experts=("broadband",), k_max=1)
    gate, _ = router(torch.zeros(2, WIDTH))
    assert gate[:, 0].tolist() == [float("-inf")] * 2
    assert router.prefer(gate).choose(torch.tensor([1, 0])).tolist() == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_promises_are_those_that_were_fitted_and_nothing_below_the_depth(router, depth):
    evidence = torch.from_numpy(np.random.default_rng(1).normal(size=(BATCH, WIDTH)))
    promised = router.promise(evidence.float(), depth)
    assert promised.shape == (BATCH, 3)
    assert not promised[:, :depth].any()
    expected = make_promises().depths[depth].promise(evidence.numpy())
    assert promised[:, depth:].numpy() == pytest.approx(expected, abs=1e-5)
    if depth == 0:
        assert torch.sigmoid(router(evidence.float())[1]).numpy() == pytest.approx(
            expected, abs=1e-5
        )


def test_the_first_round_asks_as_many_as_the_promises_say(router):
    assert int(router.first_most) == 1
    assert int(make_router().first_most) == 2


def test_the_stems_answer_stands_twice_until_an_expert_is_heard(router):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, 3, generator=generator)
    cells = torch.rand(BATCH, ROWS, 6, generator=generator)
    spec = torch.randn(BATCH, 4 * ROWS, 24, generator=generator)
    parts = {"features": torch.zeros(BATCH, 1, ROWS, 6), "cells": cells, "spec": spec}
    evidence = router.measure_evidence(belief=logits.softmax(1), **parts)
    assert evidence.shape == (BATCH, WIDTH)
    first = describe_stem(logits.softmax(1))
    expected = [first, describe_saliency(cells), measure_conditions(spec)]
    torch.testing.assert_close(evidence, torch.cat(expected, 1))

    experts = torch.randn(2, BATCH, 3, generator=generator, dtype=torch.float64)
    renewed = renew_evidence(evidence, experts, experts.mean(0), router.task)
    assert renewed.dtype == torch.float32
    assert torch.equal(renewed[:, ANSWER_NUMBERS:], evidence[:, ANSWER_NUMBERS:])
    answer = describe_answer(experts, experts.mean(0), router.task)
    assert torch.equal(renewed[:, :ANSWER_NUMBERS], answer.float())


def test_evidence_carries_a_gradient(router):
    spec = torch.randn(1, 4 * ROWS, 24, requires_grad=True)
    parts = {
        "features": torch.zeros(1, 1, ROWS, 6),
        "cells": spec[:, ::4, ::4].relu(),
        "belief": torch.tensor([[0.5, 0.3, 0.2]]),
        "spec": spec,
    }
    assert router.measure_evidence(**parts).requires_grad


def test_what_it_knows_is_kept_with_the_weights(router):
    other = make_router()
    other.load_state_dict(router.state_dict())
    evidence = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(3))
    assert torch.equal(other.promise(evidence, 1), router.promise(evidence, 1))
    assert torch.equal(other.shares, router.shares)
    assert int(other.first_most) == 1


def test_what_follows_from_weights_is_renewed_when_they_are_filled_or_loaded(router):
    other = make_router()
    assert not torch.equal(other.log_shares, router.log_shares)
    other.load_state_dict(router.state_dict())
    for name in ("order", "log_shares", "stem_shares"):
        assert torch.equal(getattr(other, name), getattr(router, name))
    assert other.reads_glance is router.reads_glance


def test_what_no_promise_reads_is_not_measured(router):
    generator = torch.Generator().manual_seed(0)
    parts = {
        "features": torch.zeros(BATCH, 1, ROWS, 6),
        "cells": torch.rand(BATCH, ROWS, 6, generator=generator),
        "belief": torch.randn(BATCH, 3, generator=generator).softmax(1),
        "spec": torch.randn(BATCH, 4 * ROWS, 24, generator=generator),
    }
    whole = router.measure_evidence(**parts)
    assert make_router().reads_glance
    assert torch.equal(router.needed_evidence(**parts), whole)

    router.weights[..., GLANCED] = 0.0
    router.derive()
    needed = router.needed_evidence(**parts)
    assert not router.reads_glance
    assert torch.equal(needed[:, : GLANCED.start], whole[:, : GLANCED.start])
    assert not needed[:, GLANCED].any()
    torch.testing.assert_close(router.promise(needed, 0), router.promise(whole, 0))
