"""Every choice has its reason; the race is a table, or a sentence on why there was none."""

from xmoe.base.config import SpectroConfig
from xmoe.policy.records import Candidate, Race, StackRow
from xmoe.report.choices import (
    describe_candidates,
    describe_choices,
    describe_race,
    say_value,
)


def test_every_choice_has_its_reason(records):
    made = describe_choices(records)
    assert made.count('<th scope="row"') >= len(records.policy.choices)
    assert "There was no race" in made


def test_the_race_marks_its_winner():
    spectro = SpectroConfig(sample_rate_hz=8000, fmin_hz=20, fmax_hz=4000)
    figures = {"accuracy": 0.9, "standard_error": 0.01, "clean_accuracy": 0.95}
    figures |= {"noisy_accuracy": 0.85, "spectro": spectro}
    first = Candidate(name="logmel", gain=0.0, gain_se=0.0, **figures)
    second = Candidate(name="pcen", gain=-0.02, gain_se=0.01, **figures)
    race = Race(
        method="ridge",
        num_clips=10,
        num_groups=2,
        folds="group",
        num_folds=5,
        partitions=4,
        noisy_copies=1,
        noise_snr_db=(0.0, 20.0),
        bar=1.8,
        candidates=(first, second),
        winner="logmel",
        runner_up="pcen",
        margin=0.02,
        margin_se=0.01,
    )
    made = describe_race(race)
    assert "logmel (chosen)" in made
    assert "-2.0 ± 1.0" in made


def test_values_are_said_for_people():
    assert say_value([20.0, 8000.0]) == "20, 8000"
    assert say_value({"transient": 1.4}) == "transient 1.4"
    assert say_value([]) == "none"
    assert say_value(64) == "64"


def test_candidates_say_what_they_gain_and_whether_they_were_taken():
    figures = {"ms": 2.5, "alone": 0.4, "gain": 0.1, "gain_se": 0.01}
    taken = StackRow(name="low", taken=True, place=1, weight=0.6, reason="it gains most", **figures)
    left = StackRow(name="mid", taken=False, place=None, weight=0.0, reason="no more", **figures)
    made = describe_candidates([taken, left])
    assert "1. low" in made
    assert "0.60" in made
    assert "+0.1000 ± 0.0100" in made
    assert "no more" in made
