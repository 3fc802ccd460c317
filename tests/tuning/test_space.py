"""A space asks for every value, holds the policy's own choice, and bounds K by the experts."""

import pytest
from pydantic import ValidationError

from xmoe.base.config import EXPERT_NAMES
from xmoe.policy.policy import choose_policy
from xmoe.tuning.space import SearchSpace, TuneCandidate, count_experts, point_of, read_candidate


class Asked:
    """Stands in for an Optuna trial: gives the first choice and notes what it was asked."""

    def __init__(self):
        self.seen = {}

    def suggest_categorical(self, name, choices):
        self.seen[name] = choices
        return choices[0]

    def suggest_int(self, name, low, high):
        self.seen[name] = (low, high)
        return low

    def suggest_float(self, name, low, high, *, log):
        self.seen[name] = (low, high, log)
        return low


@pytest.fixture
def policy(setting):
    return choose_policy(setting.profile, method="rule")


def test_every_field_of_a_candidate_is_asked_for():
    asked = Asked()
    SearchSpace().suggest(asked)
    assert set(asked.seen) == set(TuneCandidate.model_fields)
    assert asked.seen["num_experts"] == (1, len(EXPERT_NAMES))
    assert asked.seen["k_max"] == (0, 4)
    assert asked.seen["learning_rate"] == (1e-3, 1e-2, True)


def test_k_is_bounded_by_the_experts_and_the_rest_is_left_aside(make_candidate):
    values = {**make_candidate(num_experts=2).model_dump(), "k_max": 4, "number": 7}
    assert read_candidate(values) == make_candidate(num_experts=2, k_max=2)


def test_a_candidate_is_a_wish_to_the_policy(make_candidate):
    wish = make_candidate(num_experts=2, k_max=1).overrides()
    assert wish.model_dump(exclude_none=True) == {
        "frontend": "logmel",
        "num_bins": 16,
        "experts": 2,
        "k_max": 1,
        "window_frames": 2,
    }


def test_the_policys_own_choice_is_in_the_space(policy):
    space = SearchSpace(num_bins=(16,), window_frames=(500,), most_k=1).fit_to(policy)
    own = point_of(policy, 4e-3)
    assert own["num_bins"] in space.num_bins
    assert own["num_experts"] == space.most_experts == count_experts(policy)
    assert own["k_max"] <= space.most_k
    assert space.window_frames == (policy.window_frames,)
    assert read_candidate(own).learning_rate == 4e-3


def test_masked_experts_cannot_be_chosen(policy):
    masked = policy.model_copy(update={"masked_experts": policy.experts[2:], "k_max": 1})
    space = SearchSpace().fit_to(masked)
    assert (space.most_experts, space.most_k) == (2, 2)


@pytest.mark.parametrize("wrong", [{"frontends": ()}, {"frontends": ("mfcc",)}, {"most_k": 0}])
def test_a_space_without_choice_is_refused(wrong):
    with pytest.raises(ValidationError):
        SearchSpace(**wrong)
