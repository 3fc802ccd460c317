"""The race: its verdict on planted scores, and whole races on tones that are easy to tell apart."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.base.config import SpectroConfig
from xmoe.base.task import MultiLabel, SingleLabel
from xmoe.frontend.registry import build_frontend
from xmoe.policy import race as module
from xmoe.policy.folds import Folds, make_folds
from xmoe.policy.race import (
    CWT_MOST_SAMPLES,
    LEAST_CLIPS,
    choose_clips,
    drop_rare,
    error_bar,
    judge,
    list_candidates,
    mean_and_error,
    ranking_precision,
    reason_to_skip,
    run_race,
    score_answers,
    score_copies,
)

SPECTRO = SpectroConfig(
    sample_rate_hz=8000,
    fmin_hz=50.0,
    fmax_hz=4000.0,
    n_fft=256,
    win_length=200,
    hop_length=80,
    num_bins=32,
    segment_s=0.25,
)
WIDE = SpectroConfig(fmin_hz=50.0, fmax_hz=7000.0)
STFT = SPECTRO.model_copy(update={"frontend": "stft"})
CQT = SPECTRO.model_copy(update={"frontend": "cqt"})
TWO = {"logmel": SPECTRO, "stft": STFT}
ALONE = Folds(np.arange(100)[None] % 5, np.arange(100), "stratified")


def planted(accuracy, *, clips=100):
    """Return scores [clips, 2] of 1 for the first clips and 0 for the rest."""
    scores = np.zeros((clips, 2))
    scores[: round(accuracy * clips)] = 1.0
    return scores


# Which clips


def test_at_most_four_hundred_training_clips(tones):
    many = replace(tones, examples=tones.examples[:60] * 10)
    assert len(choose_clips(many, mean_duration_s=1.0, seed=0)) == 400
    chosen = choose_clips(tones, mean_duration_s=1.0, seed=0)
    assert len(chosen) == 60
    assert {example.split for example in chosen} == {"train"}


def test_fewer_of_very_long_clips_but_never_too_few(tones):
    assert len(choose_clips(tones, mean_duration_s=400.0, seed=0)) == 50
    assert len(choose_clips(tones, mean_duration_s=1e5, seed=0)) == LEAST_CLIPS


def test_rare_classes_stay_out(make_examples):
    labels = ("a",) * 30 + ("b",) * 17 + ("c",) * 3
    kept = drop_rare(make_examples(50, labels=labels))
    assert {example.labels for example in kept} == {("a",), ("b",)}
    assert len(kept) == 47


@pytest.mark.parametrize(
    ("count", "labels", "words"),
    [
        (39, ("a", "b"), "39 clips"),
        (60, ("a",), "fewer than two"),
        (60, ("a",) * 57 + ("b",) * 3, "fewer than two"),
        (44, ("a",) * 20 + ("b",) * 18 + ("c", "c", "d", "d", "e", "f"), "38 clips"),
        (0, ("a",), "fewer than two"),
    ],
)
def test_too_small_for_a_race(make_examples, count, labels, words):
    assert words in reason_to_skip(make_examples(count, labels=labels))


def test_large_enough_for_a_race(make_examples):
    assert reason_to_skip(make_examples(40)) is None


# Scores


def test_one_label_is_right_or_wrong():
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    truth = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert score_answers(answers, truth, task=SingleLabel()).tolist() == [1.0, 0.0, 1.0]


def test_ranking_precision_by_hand():
    answers = np.array([[0.9, 0.5, 0.1, 0.0]] * 3)
    truth = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert ranking_precision(answers, truth) == pytest.approx([1.0, (1 / 2 + 2 / 4) / 2, 0.0])
    assert score_answers(answers, truth, task=MultiLabel())[0] == 1.0


def test_features_that_hold_the_class_score_and_others_do_not(make_examples, rng):
    examples = make_examples(80)
    folds = make_folds(examples, seed=0)
    rows = np.eye(2)[np.arange(80) % 2]
    good = rng.standard_normal((80, 2, 20)).astype(np.float32)
    good[:, 0, 0] += 6 * rows[:, 0]
    scores = score_copies(good, rows, folds, task=SingleLabel())
    assert scores.shape == (80, 2)
    assert scores[:, 0].mean() > 0.85
    assert scores[:, 1].mean() < 0.75


def test_mean_and_error_of_independent_clips(rng):
    values = rng.standard_normal(400)
    mean, error = mean_and_error(values, np.arange(400))
    assert mean == pytest.approx(values.mean(), abs=1e-4)
    assert error == pytest.approx(values.std(ddof=1) / 20, abs=1e-4)


def test_copies_of_one_group_count_once(rng):
    values = rng.standard_normal(50)
    _, once = mean_and_error(values, np.arange(50))
    _, copied = mean_and_error(np.repeat(values, 8), np.repeat(np.arange(50), 8))
    assert copied == pytest.approx(once, abs=1e-4)


def test_the_bar_rises_with_the_number_of_contenders(rng):
    assert error_bar(1) == pytest.approx(1.0)
    assert error_bar(5) == pytest.approx(1.83, abs=0.01)
    lucky = (rng.standard_normal((20_000, 5)).max(axis=1) > error_bar(5)).mean()
    assert lucky == pytest.approx(0.159, abs=0.01)


# Verdict


def test_the_defender_stays_when_nobody_is_better():
    race = judge({"logmel": planted(0.8), "stft": planted(0.8)}, TWO, ALONE)
    assert (race.winner, race.runner_up) == ("logmel", "stft")
    assert (race.margin, race.margin_se) == (0.0, 0.0)


def test_a_clear_gain_wins():
    race = judge({"logmel": planted(0.5), "stft": planted(0.8)}, TWO, ALONE)
    assert (race.winner, race.runner_up) == ("stft", "logmel")
    assert race.margin == pytest.approx(0.3)
    assert race.candidates[1].gain == pytest.approx(0.3)
    assert race.candidates[0].gain == 0.0


def test_a_gain_within_one_standard_error_does_not():
    better = planted(0.8)
    better[70:80] = 0.0
    better[80:91] = 1.0
    race = judge({"logmel": planted(0.8), "stft": better}, TWO, ALONE)
    stft = race.candidates[1]
    assert 0 < stft.gain < stft.gain_se
    assert race.winner == "logmel"
    assert race.runner_up == "stft"
    assert race.margin == -stft.gain


def test_groups_make_a_gain_less_sure():
    scores = {"logmel": planted(0.5), "stft": planted(0.52)}
    assert judge(scores, TWO, ALONE).winner == "stft"
    grouped = Folds(ALONE.ids, np.arange(100) // 50, "group")
    race = judge(scores, TWO, grouped)
    assert race.winner == "logmel"
    assert race.num_groups == 2


def test_the_most_accurate_of_several_wins():
    three = {**TWO, "cqt": CQT}
    scores = {"logmel": planted(0.5), "stft": planted(0.7), "cqt": planted(0.9)}
    race = judge(scores, three, ALONE)
    assert (race.winner, race.runner_up) == ("cqt", "stft")
    assert race.bar == error_bar(2)


def test_clean_and_noisy_are_told_apart():
    scores = planted(0.6)
    scores[:, 1] = 0.0
    race = judge({"logmel": scores, "stft": scores}, TWO, ALONE)
    first = race.candidates[0]
    assert (first.clean_accuracy, first.noisy_accuracy, first.accuracy) == (0.6, 0.0, 0.3)


# Whole races


@pytest.fixture(scope="module")
def race(tones):
    return run_race(tones, tones.split("train"), TWO, seed=0)


def test_easy_tones_are_told_apart_by_any_front_end(race):
    assert race.num_clips == 60
    assert (race.num_folds, race.folds, race.noisy_copies) == (5, "stratified", 1)
    for candidate in race.candidates:
        assert candidate.clean_accuracy > 0.95
        assert candidate.noisy_accuracy > 0.7


def test_the_same_race_twice_is_the_same(tones, race):
    assert run_race(tones, tones.split("train"), TWO, seed=0) == race


def test_too_few_readable_clips_are_a_reason(tones):
    gone = [replace(example, filepath="gone.wav") for example in tones.split("train")[:30]]
    reason = run_race(tones, [*gone, *tones.split("train")[30:]], TWO, seed=0)
    assert isinstance(reason, str)
    assert "30 clips" in reason
    assert "can be read" in reason


def test_what_takes_several_times_as_long_does_not_race(tones, monkeypatch):
    times = {"logmel": 1.0, "stft": 4.0, "cqt": 4.1}
    monkeypatch.setattr(module, "measure_stem_ms", lambda spectro: times[spectro.frontend])
    race = run_race(tones, tones.split("train"), {**TWO, "cqt": CQT}, seed=0)
    assert [one.name for one in race.candidates] == ["logmel", "stft"]
    assert race.too_dear == ("cqt",)


def test_the_cost_of_a_stem_is_that_of_transform_and_kernels(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "time_ms", lambda call: float(seen.append(call()) or 7.0))
    assert module.measure_stem_ms(STFT) == 7.0
    assert seen[0].features.shape[2:] == (8, 7)
    assert seen[0].logits.shape == (1, 2)


def test_the_defender_comes_first_and_unchanged():
    candidates = list_candidates(WIDE, num_clips=100)
    assert next(iter(candidates.items())) == ("logmel", WIDE)
    assert list(candidates) == ["logmel", "logmel_fine", "pcen", "stft", "cqt", "cwt"]


def test_rate_band_rows_and_frames_are_shared():
    for config in list_candidates(WIDE, num_clips=10).values():
        assert config.num_frames == WIDE.num_frames
        assert config.num_bins == WIDE.num_bins
        assert config.sample_rate_hz == WIDE.sample_rate_hz
        assert (config.fmin_hz, config.fmax_hz) == (WIDE.fmin_hz, WIDE.fmax_hz)


def test_every_candidate_can_be_built():
    for config in list_candidates(WIDE, num_clips=10).values():
        assert build_frontend(config).config == config


def test_the_fine_one_looks_twice_as_long():
    fine = list_candidates(WIDE, num_clips=10)["logmel_fine"]
    assert (fine.win_length, fine.n_fft, fine.hop_length) == (800, 1024, 160)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"segment_s": 0.3}, "pcen"),
        ({"segment_s": 0.05}, "logmel_fine"),
        ({"fmin_hz": 4000.0}, "cqt"),
        ({"fmin_hz": 4000.0}, "cwt"),
    ],
)
def test_what_makes_no_sense_does_not_race(change, missing):
    candidates = list_candidates(WIDE.model_copy(update=change), num_clips=10)
    assert missing not in candidates
    assert "stft" in candidates


def test_wavelets_race_only_where_they_take_seconds():
    affordable = CWT_MOST_SAMPLES // WIDE.segment_samples
    assert "cwt" in list_candidates(WIDE, num_clips=affordable)
    assert "cwt" not in list_candidates(WIDE, num_clips=affordable + 1)
