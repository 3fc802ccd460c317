"""A trial trains one candidate, measures it on validation alone, and shares its spectrograms."""

import itertools
import json
from dataclasses import replace

import pytest

from xmoe.base.errors import ConfigError
from xmoe.pipeline import fit
from xmoe.pipeline.fit import build_stores
from xmoe.tuning.space import SearchSpace
from xmoe.tuning.trial import (
    begin_policy,
    bound_cost,
    configure,
    fit_budget,
    run_trial,
    store_folder,
)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def tried(shared, make_candidate):
    """What a trial told on its way, and its result."""
    told = []
    return told, run_trial(shared, make_candidate(), number=3, on_epoch=told.append)


def test_a_trial_learns_and_tells_of_every_epoch(tried):
    told, result = tried
    assert [figures.epoch for figures in told] == [1, 2, 3, 4]
    assert (result.number, result.epochs, result.finished) == (3, 4, True)
    assert result.accuracy >= 0.9
    assert 0 <= result.mean_k <= 1
    assert 0 < result.mmac <= told[0].mmac
    assert result.latency_ms > 0
    assert result.standard_error > 0


def test_the_test_split_is_not_read(setting, make_candidate, monkeypatch):
    blind = replace(
        setting.dataset,
        examples=tuple(
            replace(example, filepath="missing.wav") if example.split == "test" else example
            for example in setting.dataset.examples
        ),
    )
    asked = []
    build = fit.build_store

    def note(path, dataset, examples, frontend, **options):
        asked.extend(example.split for example in examples)
        return build(path, dataset, examples, frontend, **options)

    monkeypatch.setattr(fit, "build_store", note)
    one = replace(setting, dataset=blind, train=setting.train.model_copy(update={"epochs": 1}))
    run_trial(one, make_candidate(), number=0)
    assert set(asked) == {"train", "val"}


def test_the_same_candidate_has_the_same_figures(tried, setting, make_candidate):
    first, second = tried[1], run_trial(setting, make_candidate(), number=0)
    assert first.accuracy == second.accuracy
    assert first.mmac == second.mmac


def test_a_trial_that_is_stopped_leaves_spectrograms_but_no_weights(setting, make_candidate):
    def stop(figures):
        raise Stopped

    with pytest.raises(Stopped):
        run_trial(setting, make_candidate(), number=0, on_epoch=stop)
    assert [path.name for path in setting.work_dir.iterdir()] == ["spectrograms"]


def test_spectrograms_are_made_once_for_each_front_end(setting, make_candidate, monkeypatch):
    first, other = (
        configure(setting, make_candidate()),
        configure(setting, make_candidate(frontend="pcen", k_max=0)),
    )

    def val_clips(config):
        where = store_folder(setting, config.spectro)
        return build_stores(where, setting.dataset, config.spectro, ("val",))["val"].clip_ids

    clips = [val_clips(config) for config in (first, other)]
    monkeypatch.setattr(fit, "build_store", lambda *_, **__: pytest.fail("built again"))
    again = configure(setting, make_candidate(num_experts=2, learning_rate=0.001))
    assert val_clips(again) == clips[0]
    assert len(list((setting.work_dir / "spectrograms").iterdir())) == 2


def test_a_candidate_becomes_the_settings_of_a_run(setting, make_candidate):
    config = configure(setting, make_candidate(num_experts=2, k_max=2, learning_rate=0.002))
    assert config.spectro.num_bins == 16
    assert (len(config.model.experts), config.model.k_max) == (2, 2)
    assert config.model.window_frames == 2
    assert config.train.learning_rate == 0.002
    json.dumps(config.model_dump(mode="json"))


def test_a_candidate_that_cannot_be_is_an_error(setting, make_candidate):
    with pytest.raises(ConfigError, match="--window-frames"):
        configure(setting, make_candidate(window_frames=10_000))


def test_cost_is_bounded_by_asking_the_most_experts(setting, make_candidate):
    mmac = [
        bound_cost(configure(setting, make_candidate(k_max=k, num_experts=2)))[0] for k in range(3)
    ]
    assert mmac == sorted(mmac)
    assert mmac[0] < mmac[1]
    steps = [after - before for before, after in itertools.pairwise(mmac)]
    assert steps == pytest.approx([steps[0]] * 2, rel=1e-3)


def test_a_mixture_cannot_spend_more_than_its_experts():
    assert fit_budget("latency", 1) == "latency"
    assert fit_budget(1.5, 3) == 1.5
    assert fit_budget(1.5, 1) == 1.0
    assert fit_budget(1.5, 0) == 0.0


def test_a_budget_above_k_is_what_k_allows(shared, make_candidate, tmp_path):
    train = shared.train.model_copy(update={"epochs": 1})
    rich = replace(shared, work_dir=tmp_path, train=train, budget=2.0)
    assert 0 < run_trial(rich, make_candidate(k_max=1), number=0).mean_k <= 1


def test_the_first_policy_has_a_front_end_of_the_space(setting):
    own = begin_policy(setting, SearchSpace())
    assert own.spectro.frontend == "logmel"
    assert begin_policy(setting, SearchSpace(frontends=("stft",))).spectro.frontend == "stft"
