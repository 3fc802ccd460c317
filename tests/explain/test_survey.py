"""A survey of a store: every method on every question, gains over random paired."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.fixtures.closed_runs import closed_config
from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import RunConfig, TrainConfig
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.survey import WATCHED, rank_correlation, survey_store
from xmoe.features.store import SoundStore, SpectrogramStore
from xmoe.frontend.measure import measure_segments
from xmoe.predict.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(trained_subject):
    model = trained_subject.model
    config = RunConfig(
        classes=trained_subject.classes,
        spectro=trained_subject.frontend.config,
        model=model.config,
        train=TrainConfig(device="cpu"),
        routing=trained_subject.routing,
    )
    return Predictor(config, model)


@pytest.fixture(scope="module")
def store():
    """Six recordings of 0.4 s whose event lies where the class is trained to be."""

    power = torch.rand(6, 41, 32, generator=torch.Generator().manual_seed(0)).add(0.2)
    for index in range(6):
        low = 4 + 10 * (index % 3)
        power[index, 10:18, low : low + 4] *= 30.0
    values = power.log10().flatten(0, 1).to(torch.float16).numpy()
    firsts = np.arange(7)
    return SpectrogramStore(values, 41 * firsts, firsts, firsts[:6] % 3, tuple("abcdef"))


@pytest.fixture(scope="module")
def survey(predictor, store):
    steps = []
    found = survey_store(
        predictor,
        store,
        num_clips=3,
        progress=lambda what, done, total, *_: steps.append((what, done, total)),
    )
    return found, steps


def test_every_method_is_judged_on_every_question(survey):
    found, steps = survey
    json.dumps(found, allow_nan=False)
    assert steps[-1] == ("explanations", 3, 3)
    assert (found["num_clips"], found["num_clips_of_split"]) == (3, 6)
    assert set(found["questions"]) == set(WATCHED)
    for question in found["questions"].values():
        assert set(question["methods"]) == {*METHODS, "random"}


def test_figures_have_intervals_around_them(survey):
    for question, asked in survey[0]["questions"].items():
        for name, row in asked["methods"].items():
            for figure in ("deletion", "insertion"):
                low, high = row[f"{figure}_ci"]
                assert low <= row[figure] <= high
            assert ("deletion_gain" in row) == (name != "random")
            assert ("stability" in row) == (name != "random" and question == "label")


def test_gains_are_paired_differences_from_random(survey):
    methods = survey[0]["questions"]["label"]["methods"]
    gain = methods["random"]["deletion"] - methods["gradcam"]["deletion"]
    assert methods["gradcam"]["deletion_gain"] == pytest.approx(gain)
    assert methods["saliency"]["insertion_gain"] > 0.0
    for name, row in methods.items():
        if name != "random":
            lows = row["deletion_gain_ci"][0], row["insertion_gain_ci"][0]
            assert row["beats_random"] == (min(lows) > 0.0)


def test_forty_decibels_leave_the_saliency_where_it_is(survey):
    assert survey[0]["questions"]["label"]["methods"]["saliency"]["stability"] > 0.9


def test_the_oracle_is_the_dearest(survey):
    spent = {n: r["ms"] for n, r in survey[0]["questions"]["label"]["methods"].items() if "ms" in r}
    assert max(spent, key=spent.get) == "occlusion"
    assert min(spent, key=spent.get) == "saliency"


def test_the_same_seed_surveys_the_same_clips(predictor, store, survey):
    again = survey_store(predictor, store, num_clips=3)
    for question in WATCHED:
        one, other = (s["questions"][question]["methods"]["saliency"] for s in (survey[0], again))
        assert one["deletion"] == other["deletion"]
    assert np.isfinite(one["insertion"])


def test_a_run_in_closed_form_is_surveyed_with_its_sound(closed):
    config = closed_config()
    predictor = Predictor(config, closed.model)
    segments = [Segment(make_sound(0.4, seed=seed), RATE_HZ, 0) for seed in range(2)]
    power = torch.cat([measure_segments([one], predictor.frontend)[0] for one in segments])
    values = power.clamp_min(1e-12).log10().transpose(1, 2).flatten(0, 1)
    sound, firsts = hold_sound(segments), np.arange(3)
    kept = SoundStore(
        levels=sound.samples.flatten().numpy(),
        offsets=sound.samples.shape[1] * firsts,
        scale=sound.scale.numpy(),
        rate_hz=sound.rate_hz.numpy(),
    )
    store = SpectrogramStore(
        values.half().numpy(), 41 * firsts, firsts, firsts[:2], ("a", "b"), kept
    )
    found = survey_store(predictor, store, num_clips=2)
    assert set(found["questions"]) == {"label", "k"}  # their order is fixed
    label = found["questions"]["label"]["methods"]
    assert set(label) == {*METHODS, "random"}
    assert label["saliency"]["stability"] > 0.9
    json.dumps(found, allow_nan=False)


def test_correlation_is_spearmans():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(8, 9, generator=generator)
    other = (one + torch.randn(8, 9, generator=generator)).relu()  # half of it ties
    expected = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert rank_correlation(one, other) == pytest.approx(float(expected), abs=1e-9)


def test_a_flat_map_is_like_nothing():
    assert rank_correlation(torch.zeros(4, 5), torch.rand(4, 5)) == 0.0
