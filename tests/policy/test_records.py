"""Records survive JSON, and refuse what is unknown."""

import json

import pytest
from pydantic import ValidationError

from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.base.files import to_json
from xmoe.policy.records import (
    Candidate,
    Choice,
    Policy,
    PolicyOverrides,
    Race,
    StackRow,
    list_specs,
    number_rows,
)

SPECTRO = SpectroConfig(fmin_hz=50.0, fmax_hz=7000.0)


def candidate(name, accuracy, gain):
    return Candidate(
        name=name,
        spectro=SPECTRO,
        accuracy=accuracy,
        standard_error=0.01,
        clean_accuracy=accuracy + 0.05,
        noisy_accuracy=accuracy - 0.05,
        gain=gain,
        gain_se=0.02,
    )


RACE = Race(
    method="ridge",
    num_clips=100,
    num_groups=20,
    folds="group",
    num_folds=5,
    partitions=4,
    noisy_copies=1,
    noise_snr_db=(0.0, 20.0),
    bar=1.0,
    candidates=(candidate("logmel", 0.8, 0.0), candidate("stft", 0.75, -0.05)),
    winner="logmel",
    runner_up="stft",
    margin=0.05,
    margin_se=0.02,
)
CHOICES = (
    Choice(name="sample_rate_hz", value=16_000, reason="all recordings have 16 kHz"),
    Choice(name="band_hz", value=[50.0, 7000.0], reason="effective band", source="user"),
    Choice(name="expert_priors", value={"transient": 1.5}, reason="many clicks"),
    Choice(name="masked_experts", value=[], reason="nothing rules one out"),
    Choice(name="frontend", value="logmel", reason="kept its place", source="race"),
)


@pytest.fixture
def policy():
    return Policy(
        spectro=SPECTRO,
        experts=EXPERT_NAMES,
        masked_experts=("high_band",),
        expert_priors={"transient": 1.5},
        k_max=3,
        window_frames=4,
        choices=CHOICES,
        race=RACE,
    )


def test_a_policy_survives_json(policy):
    assert Policy.model_validate(json.loads(to_json(policy.model_dump(mode="json")))) == policy


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError):
        PolicyOverrides.model_validate({"tempo": 3})
    with pytest.raises(ValidationError):
        Choice.model_validate({"name": "x", "value": 1, "reason": "y", "source": "dice"})


def test_no_wish_is_the_default():
    assert set(PolicyOverrides().model_dump().values()) == {None}


@pytest.mark.parametrize(("given", "kept"), [(4, 4), (["low", "mid"], ("low", "mid"))])
def test_experts_by_number_or_name(given, kept):
    assert PolicyOverrides.model_validate({"experts": given}).experts == kept


def test_the_mixture_gets_what_was_chosen(policy):
    config = policy.as_model_config(task="multi_label", num_classes=7)
    assert config.task == "multi_label"
    assert config.num_classes == 7
    assert config.expert_names == EXPERT_NAMES
    assert config.masked_experts == ("high_band",)
    assert config.expert_priors == {"transient": 1.5}
    assert (config.k_max, config.window_frames) == (3, 4)


@pytest.mark.parametrize("frontend", ["stft", "logmel"])
def test_bands_lie_within_the_front_ends_and_meet_where_rows_do(frontend):
    spectro = SpectroConfig(frontend=frontend, fmin_hz=100.0, fmax_hz=6000.0)
    bands = {spec.name: spec.band_hz for spec in list_specs(EXPERT_NAMES, spectro)}
    assert tuple(bands) == EXPERT_NAMES
    low_hz, high_hz = bands["broadband"]
    assert 0.0 <= low_hz < 150.0
    assert 5800.0 < high_hz < 6200.0
    assert bands["low"][1] == bands["high"][0]
    assert bands["low"][0] == bands["broadband"][0]
    assert bands["high"][1] == bands["high_band"][1] == bands["broadband"][1]
    assert bands["mid"][0] < bands["low"][1] < bands["mid"][1]


def test_half_of_a_linear_band_is_half_in_hertz():
    spectro = SpectroConfig(frontend="stft", fmin_hz=0.0, fmax_hz=8000.0, num_bins=64)
    (low,) = list_specs(["low"], spectro)
    assert low.band_hz[1] == pytest.approx(4000.0, rel=0.03)


def test_the_table_stands_in_the_order_of_the_mixture():
    figures = {"ms": 1.0, "alone": 0.5, "gain": 0.1, "gain_se": 0.01, "weight": 0.5}
    rows = [
        StackRow(name="lost", taken=True, place=1, reason="it gains most", **figures),
        StackRow(name="second", taken=True, place=2, reason="then", **figures),
        StackRow(name="never", taken=False, place=None, reason="no more", **figures),
        StackRow(name="first", taken=True, place=3, reason="last", **figures),
    ]
    found = number_rows(rows, {"stem": 1.0, "first": 0.75, "second": 0.25})
    assert [(row.name, row.place, row.weight) for row in found] == [
        ("first", 1, 0.75),
        ("second", 2, 0.25),
        ("lost", None, 0.0),
        ("never", None, 0.0),
    ]
    assert found[2].reason == "it gains most; beside those taken after it, it weighs nothing"
    assert (found[2].taken, found[3].reason) == (False, "no more")
    assert number_rows(rows, {"first": 1.0}, "by hand")[1].reason == "it gains most; by hand"
