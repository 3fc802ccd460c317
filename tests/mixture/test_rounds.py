"""Two rounds: who is asked further and who is not, what was heard is kept, what is dead is dead."""

from dataclasses import replace

import pytest
import torch

from xmoe.base.config import ASK_ALL, RoutingConfig
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import combine, stack_replies
from xmoe.mixture.rounds import answer_plan, ask_further

ENTROPY = 4
CHEAP = RoutingConfig(k_price=0.0)
CLIPS = 6


def odds(p):
    return float(torch.tensor(p).logit())


@pytest.fixture
def model(build):
    """A mixture that asks one expert first, and further ones where the answer has entropy.

    Three promise nearly 1 where the entropy is above a threshold, and nearly 0 below.
    """
    made = build(router="promise", k_max=4)
    router = made.router
    router.first_most.fill_(1)
    router.shares.copy_(torch.rand(5, 5, generator=torch.Generator().manual_seed(5)) + 0.1)
    router.derive()
    router.bias[0] = torch.tensor([odds(0.2)] + [odds(0.8)] * 4)
    router.bias[1, 1] = odds(0.5)
    router.bias[1, 2] = odds(0.3)
    router.weights[1, 3:, ENTROPY] = 1.0
    return made


@pytest.fixture
def first(model, make_specs):
    """The plan of the first round for six clips, and what experts are fed."""
    return model.prepare(make_specs(CLIPS), CHEAP)


def entropy_of(model, plan, inputs):
    """Return the entropy of the answer with one expert, in parts of the largest."""
    replies = call_experts(model.callers(), model.requests(plan, inputs))
    p = combine(plan, replies).logits.softmax(1)
    return -(p * p.log()).sum(1) / torch.log(torch.tensor(3.0))


def spread(model, first):
    """Put the threshold of entropy between the clips; return who is above it."""
    entropy = entropy_of(model, *first)
    below, above = entropy.sort().values[CLIPS // 2 - 1 : CLIPS // 2 + 1]
    model.router.mean[:, ENTROPY] = (below + above) / 2
    model.router.scale[:, ENTROPY] = (above - below) / 20
    return entropy >= above


def test_the_first_round_asks_no_more_than_it_may(model, first, make_specs):
    assert first[0].k.tolist() == [1] * CLIPS
    assert model.prepare(make_specs(CLIPS), CHEAP, k_max=0)[0].k.tolist() == [0] * CLIPS
    for_nothing = RoutingConfig(k_price=ASK_ALL)  # without a promise: at once
    assert model.prepare(make_specs(CLIPS), for_nothing)[0].k.tolist() == [4] * CLIPS


@torch.no_grad()
def test_the_second_round_asks_only_where_more_is_promised(model, first):
    unsure = spread(model, first)
    assert 0 < int(unsure.sum()) < CLIPS
    plan, _ = answer_plan(model, *first, CHEAP)
    assert plan.k.tolist() == torch.where(unsure, 3, 1).tolist()


@torch.no_grad()
def test_the_answer_is_that_of_asking_all_of_them_at_once(model, first, make_specs):
    spread(model, first)
    plan, said = answer_plan(model, *first, CHEAP)
    for k in (1, 3):
        together, inputs = model.prepare(make_specs(CLIPS), CHEAP, k=k)
        expected = model.carry_out(together, inputs)
        rows = plan.k == k
        torch.testing.assert_close(said.logits[rows], expected.logits[rows], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(said.weights[rows], expected.weights[rows])
    assert not said.degraded.any()


@torch.no_grad()
def test_nobody_is_asked_twice(model, first):
    spread(model, first)
    asked = {}

    def note(name, caller):
        def ask(request):
            asked.setdefault(name, []).extend(request.rows.tolist())
            return caller(request)

        return ask

    callers = {name: note(name, caller) for name, caller in model.callers().items()}
    plan, _ = answer_plan(model, *first, CHEAP, callers=callers)
    for index, name in enumerate(plan.expert_names):
        rows = torch.nonzero(plan.weights[:, index] > 0).squeeze(1)
        assert sorted(asked.get(name, [])) == rows.tolist()


@torch.no_grad()
@pytest.mark.parametrize(("bound", "most"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_k_max_bounds_both_rounds_together(model, first, bound, most):
    unsure = spread(model, first)
    plan, _ = answer_plan(model, *first, CHEAP, k_max=bound)
    assert plan.k.tolist() == torch.where(unsure, most, 1).tolist()


@torch.no_grad()
def test_milliseconds_that_cost_too_much_are_not_spent(model, first):
    spread(model, first)
    dear = RoutingConfig(k_price=0.1, costs_ms=(1.0, 1.0, 10.0, 1.0))
    plan, _ = answer_plan(model, *first, dear)
    assert plan.k.tolist() == [1] * CLIPS


@torch.no_grad()
def test_the_next_expert_stands_in_for_one_that_is_dead(model, first):
    plan, inputs = first
    callers = model.callers()
    callers.pop("broadband")
    told, said = answer_plan(model, plan, inputs, CHEAP, callers=callers, k_max=1)
    assert told.k.tolist() == [1] * CLIPS
    assert said.answered.nonzero()[:, 1].tolist() == [1] * CLIPS
    assert said.missing.nonzero()[:, 1].tolist() == [0] * CLIPS
    gone = torch.arange(len(plan.expert_names)) == 0
    other = replace(plan, weights=plan.preference.without(gone).choose(plan.k))
    replies = call_experts(callers, model.requests(other, inputs))
    torch.testing.assert_close(said.logits, combine(other, replies).logits)
    assert not torch.allclose(said.logits, plan.stem_logits)


@torch.no_grad()
def test_another_stands_in_only_for_the_clip_that_lacks_one(model, first):
    whole = answer_plan(model, *first, CHEAP, k_max=1)[1].logits
    callers = model.callers()
    ask = callers["broadband"]

    def fail_on_the_third(request):
        return ask(request).masked_fill((request.rows == 2).unsqueeze(1), torch.nan)

    callers["broadband"] = fail_on_the_third
    said = answer_plan(model, *first, CHEAP, callers=callers, k_max=1)[1]
    others = torch.arange(CLIPS) != 2
    assert said.answered.nonzero()[:, 1].tolist() == [0, 0, 1, 0, 0, 0]
    torch.testing.assert_close(said.logits[others], whole[others])
    assert said.missing.any(1).tolist() == [False, False, True, False, False, False]


@torch.no_grad()
def test_who_is_dead_is_passed_over_in_the_second_round_too(model, first):
    model.router.bias[1, 2:] = odds(0.9)
    callers = model.callers()
    callers.pop("broadband")
    plan, said = answer_plan(model, *first, CHEAP, callers=callers)
    assert (plan.k > 1).all()
    assert not said.answered[:, 0].any()
    assert (said.answered == (plan.weights > 0)).all()
    assert (said.missing.nonzero()[:, 1] == 0).all()


@torch.no_grad()
def test_the_stem_answers_where_nobody_is_left(model, first):
    plan, said = answer_plan(model, *first, CHEAP, callers={})
    torch.testing.assert_close(said.logits, plan.stem_logits)
    assert said.missing[:, 0].all()
    assert plan.k.tolist() == [0] * CLIPS


@torch.no_grad()
def test_an_expert_that_dies_in_the_second_round_is_missing_there(model, first, make_specs):
    unsure = spread(model, first)
    callers = model.callers()
    callers["transient"] = lambda request: torch.full((len(request.rows), 3), torch.nan)
    said = answer_plan(model, *first, CHEAP, callers=callers)[1]
    assert said.missing[:, 2].tolist() == unsure.tolist()
    together, inputs = model.prepare(make_specs(CLIPS), CHEAP, k=3)
    left = combine(together, call_experts(callers, model.requests(together, inputs)))
    torch.testing.assert_close(said.logits[unsure], left.logits[unsure], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_clips_that_asked_nobody_stay_with_the_stem(model, make_specs):
    model.router.bias[0] = torch.tensor([odds(0.9)] + [odds(0.8)] * 4)
    plan, inputs = model.prepare(make_specs(CLIPS), CHEAP)
    assert ask_further(model, plan, {}, CHEAP) is None
    torch.testing.assert_close(answer_plan(model, plan, inputs, CHEAP)[1].logits, plan.stem_logits)


@torch.no_grad()
def test_a_batch_is_answered_as_its_clips_one_by_one(model, first, make_specs):
    spread(model, first)
    together = answer_plan(model, *first, CHEAP)[1].logits
    for row, spec in enumerate(make_specs(CLIPS)):
        alone = answer_plan(model, *model.prepare(spec[None], CHEAP), CHEAP)[1].logits
        torch.testing.assert_close(together[row], alone[0], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_a_router_trained_by_gradient_asks_once(build, make_specs):
    gated = build()
    plan, inputs = gated.prepare(make_specs(CLIPS), CHEAP)
    replies = call_experts(gated.callers(), gated.requests(plan, inputs))
    assert ask_further(gated, plan, replies, CHEAP) is None
    assert stack_replies(plan, replies)[1].sum(1).tolist() == plan.k.tolist()
