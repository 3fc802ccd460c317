"""Which windows, how many experts, what temperature: planted answers, and a trained model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from xmoe.base.errors import ConfigError
from xmoe.base.task import SingleLabel
from xmoe.features.segments import Segments
from xmoe.glance.router import choose_counts
from xmoe.mixture.combine import STEM_SHARE
from xmoe.training import calibrate as module
from xmoe.training.calibrate import FRACTIONS, SELECTORS, Trial, calibrate, check_budget

CLIPS = 100
TRUTH = torch.arange(CLIPS) % 2


def answers(right, margin=6.0):
    """Return logits [100, 2] that are right for the first ``right`` clips."""
    said = torch.where(torch.arange(CLIPS) < right, TRUTH, 1 - TRUTH)
    return margin * torch.nn.functional.one_hot(said, 2).float()


def make_trial(*, stem=0, expert=CLIPS, promises=None, margin=6.0):
    """Return a trial of one expert; ``stem`` and ``expert`` are how many clips each gets right."""
    return Trial(
        stem=answers(stem),
        experts=3 * answers(expert, margin).unsqueeze(0),
        gate=torch.ones(CLIPS, 1),
        promises=torch.zeros(CLIPS, 2) if promises is None else promises,
        segments=Segments(torch.empty(0), torch.arange(CLIPS)),
        targets=torch.nn.functional.one_hot(TRUTH, 2).float(),
        task=SingleLabel(),
    )


def make_trials(**right):
    """Return trials of every selector and share; ``right`` maps ``saliency_8`` to right clips."""
    trials = {}
    for fraction in FRACTIONS:
        for selector in SELECTORS if fraction < 1 else SELECTORS[:1]:
            count = right.get(f"{selector}_{round(1 / fraction)}", CLIPS)
            trials[selector, fraction] = make_trial(expert=count)
    return trials


def worse(share, right):
    return {f"{selector}_{share}": right for selector in SELECTORS}


def promise(gains):
    return 0.5 + torch.stack([torch.zeros(CLIPS), torch.as_tensor(gains).float()], 1)


def mean_k(trial, price):
    return float(choose_counts(trial.promises, price).float().mean())


def test_logits_of_k_experts_blend_stem_and_expert():
    trial = make_trial(stem=40, expert=70)
    torch.testing.assert_close(trial.logits_at(trial.all_ask(0)), trial.stem)
    expected = STEM_SHARE * trial.stem + (1 - STEM_SHARE) * trial.experts[0]
    torch.testing.assert_close(trial.logits_at(trial.all_ask(1)), expected)
    assert trial.right_at(trial.all_ask(0)).mean() == pytest.approx(0.4)
    assert trial.right_at(trial.all_ask(1)).mean() == pytest.approx(0.7)
    right = float(torch.nn.functional.softplus(torch.tensor(-6.0)))
    assert trial.loss_at(trial.all_ask(0)) == pytest.approx(right + 0.6 * 6.0, rel=1e-4)


def test_masked_expert_is_asked_by_no_trial():
    trial = make_trial()
    masked = replace(
        trial,
        experts=torch.cat([torch.full_like(trial.experts, 100.0), trial.experts]),
        gate=torch.tensor([[0.0, 1.0]]).expand(CLIPS, 2),
    )
    asked = trial.all_ask(1)
    torch.testing.assert_close(masked.logits_at(asked), trial.logits_at(asked))


def test_merged_copies_are_clips_of_their_own():
    merged = module._merge([make_trial(expert=100), make_trial(expert=50)])
    right = merged.right_at(merged.all_ask(1))
    assert right.shape == (200,)
    assert right[:100].mean() == 1.0
    assert right[100:].mean() == 0.5


def test_smallest_share_by_saliency_where_nothing_is_lost():
    selector, fraction, reason = module._choose_where(make_trials(), 1, "accuracy")
    assert (selector, fraction) == ("saliency", 1 / 8)
    assert "0.125 of the windows chosen by saliency score 1.000" in reason


def test_share_grows_until_nothing_is_lost():
    trials = make_trials(**worse(8, 60), **worse(4, 80))
    assert module._choose_where(trials, 1, "accuracy")[:2] == ("saliency", 1 / 2)


def test_whole_map_where_every_share_loses():
    trials = make_trials(**worse(8, 50), **worse(4, 60), **worse(2, 70))
    selector, fraction, reason = module._choose_where(trials, 1, "latency")
    assert (selector, fraction) == ("saliency", 1.0)
    assert "whole map" in reason


def test_better_selector_takes_the_place_of_saliency():
    trials = make_trials(**worse(8, 60) | {"energy_8": 100})
    assert module._choose_where(trials, 1, "accuracy")[:2] == ("energy", 1 / 8)


def test_saliency_keeps_its_place_within_one_standard_error():
    trials = make_trials(**worse(8, 97))
    better = make_trial(expert=98).experts.roll(10, 1)  # it is wrong on other clips
    trials["energy", 1 / 8] = replace(trials["energy", 1 / 8], experts=better)
    assert module._choose_where(trials, 1, "latency")[:2] == ("saliency", 1 / 8)


def test_latency_may_lose_more_than_accuracy():
    # Three of a hundred clips are 1.76 standard errors.
    trials = make_trials(**worse(8, 97))
    assert module._choose_where(trials, 1, "latency")[1] == 1 / 8
    assert module._choose_where(trials, 1, "accuracy")[1] == 1 / 4


@pytest.mark.parametrize("aim", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_price_meets_a_mean_number_of_experts(aim):
    trial = make_trial(promises=promise(np.geomspace(2e-4, 0.5, CLIPS)))
    price, reason = module._choose_price(trial, aim)
    assert abs(mean_k(trial, price) - aim) <= 0.05
    assert f"nearest to {aim:g}" in reason


def test_latency_asks_one_expert_every_other_time():
    trial = make_trial(promises=promise(np.geomspace(2e-4, 0.5, CLIPS)))
    price, _ = module._choose_price(trial, "latency")
    assert mean_k(trial, price) == pytest.approx(0.5, abs=0.05)


def test_accuracy_asks_experts_only_where_the_stem_is_wrong():
    gains = np.where(np.arange(CLIPS) < 50, 0.01, 0.4)
    trial = make_trial(stem=50, promises=promise(gains))
    price, reason = module._choose_price(trial, "accuracy")
    assert 0.3 < price < 0.4
    assert mean_k(trial, price) == 0.5
    assert "mean K 0.50, 1.000 right" in reason


def test_accuracy_asks_nobody_where_experts_add_nothing():
    trial = make_trial(stem=80, expert=80, promises=promise(np.full(CLIPS, 0.3)))
    price, _ = module._choose_price(trial, "accuracy")
    assert price == 1.0
    assert mean_k(trial, price) == 0.0


def test_accuracy_asks_experts_that_promise_nothing_but_are_right():
    trial = make_trial(stem=50, promises=promise(np.full(CLIPS, -0.02)))
    price, _ = module._choose_price(trial, "accuracy")
    assert price < 0
    assert mean_k(trial, price) == 1.0


def doubtful_trial():
    """Return a trial whose ten least sure answers are wrong and whose others are right."""
    margin = torch.linspace(1.0, 5.0, CLIPS).unsqueeze(1)
    sign = torch.where(torch.arange(CLIPS) < 10, -1.0, 1.0).unsqueeze(1)
    logits = margin * sign * torch.nn.functional.one_hot(TRUTH, 2)
    return replace(make_trial(), stem=logits, experts=logits.unsqueeze(0))


def test_answers_are_uncertain_where_most_were_wrong():
    trial = doubtful_trial()
    doubt = module._judge_doubt(trial, 1.0, (1.0, 1.0))
    top = torch.softmax(trial.stem, 1).amax(1)
    assert doubt.threshold == pytest.approx(float(top[10]), abs=1e-4)
    assert (doubt.share, doubt.wrong_under, doubt.wrong_over) == (0.1, 1.0, 0.0)
    assert "100.0% were wrong, of the others 0.0%" in doubt.reason


def test_temperature_moves_the_threshold():
    trial = doubtful_trial()
    doubt = module._judge_doubt(trial, 1.0, (4.0, 1.0))
    top = torch.softmax(trial.stem / 4, 1).amax(1)
    assert doubt.threshold == pytest.approx(float(top[10]), abs=1e-4)


def test_nothing_is_uncertain_where_all_were_right():
    doubt = module._judge_doubt(make_trial(stem=CLIPS), 0.0, (1.0, 1.0))
    assert (doubt.threshold, doubt.share) == (0.0, 0.0)


def test_standard_error_is_never_zero():
    assert module._standard_error(np.zeros(50)) == pytest.approx(0.005)
    assert module._standard_error(np.array([0.0, 1.0] * 50)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [("accuracy", "accuracy"), ("latency", "latency"), (1, 1.0), ("0.5", 0.5), (0, 0.0)],
)
def test_budget_is_a_word_or_a_mean_k(budget, expected):
    assert check_budget(budget, 2) == expected


@pytest.mark.parametrize("budget", ["fast", "", -0.1, 2.01, float("nan"), "nan"])
def test_other_budgets_are_refused(budget):
    with pytest.raises(ConfigError, match="mean K from 0 to 2"):
        check_budget(budget, 2)


def test_bad_budget_is_refused_before_any_work(trained, config, frontend):
    with pytest.raises(ConfigError, match="budget"):
        calibrate(trained.averaged, frontend, config, None, "cheap")


def test_noisy_copies_are_the_same_each_time(frontend, config, stores):
    one, other = (module._copies(frontend, config, stores["val"]) for _ in range(2))
    assert len(one) == 3
    for (segments, targets), (again, targets_again) in zip(one, other, strict=True):
        assert torch.equal(segments.spec, again.spec)
        assert torch.equal(targets, targets_again)
    assert not torch.equal(one[0][0].spec, one[1][0].spec)
    assert not torch.equal(one[1][0].spec, one[2][0].spec)


@pytest.fixture(scope="module")
def routings(trained, config, frontend, stores):
    """The routing of a trained model for every kind of budget."""
    budgets = ("accuracy", "latency", 0, 2)
    return {
        budget: calibrate(trained.averaged, frontend, config, stores["val"], budget)
        for budget in budgets
    }


def test_calibration_repeats_itself(routings, trained, config, frontend, stores):
    again = calibrate(trained.averaged, frontend, config, stores["val"], "accuracy")
    assert again == routings["accuracy"]


@pytest.mark.parametrize("budget", ["accuracy", "latency", 0, 2])
def test_calibration_gives_a_whole_routing(routings, budget):
    routing = routings[budget]
    assert routing.budget == budget
    assert len(routing.temperatures) == 3
    assert all(0.05 <= temperature <= 20 for temperature in routing.temperatures)
    assert routing.window_fraction in FRACTIONS
    assert routing.selector in SELECTORS
    assert 0 <= routing.uncertain_below < 1
    assert set(routing.reasons) == {"windows", "k", "uncertain"}


@pytest.mark.parametrize("budget", [0, 2])
def test_mean_k_of_a_trained_model_is_the_budget(routings, trained, frontend, config, budget):
    (clean, *_) = module._copies(frontend, config, trained.val_store)
    routing = routings[budget]
    plan = trained.averaged.eval().plan(clean[0].spec, routing)
    assert float(plan.k.float().mean()) == budget


def test_several_labels_are_calibrated_too(trained, frontend, config, stores):
    model = config.model.model_copy(update={"task": "multi_label"})
    several = config.model_copy(update={"model": model})
    rows = np.eye(3, dtype=np.float32)[stores["val"].targets]
    store = replace(stores["val"], targets=rows)
    answering = copy.deepcopy(trained.averaged)
    answering.config = model
    routing = calibrate(answering, frontend, several, store, "accuracy")
    assert len(routing.temperatures) == 3
    assert routing.uncertain_below == 0.0
    assert "several labels" in routing.reasons["uncertain"]
