"""Settings: immutable, no unknown fields, finite, every rule, and JSON both ways."""

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import (
    EXPERT_NAMES,
    Frozen,
    ModelConfig,
    RouterEvidence,
    RoutingConfig,
    RunConfig,
    SpectroConfig,
    TrainConfig,
)

CONFIGS = {
    "spectro": SpectroConfig(fmin_hz=50.0, fmax_hz=4000.0),
    "model": ModelConfig(
        experts=cnn_specs(), num_classes=3, masked_experts=("mid",), expert_priors={"low": 2.0}
    ),
    "train": TrainConfig(epochs=4),
    "routing": RoutingConfig(budget=1.5, temperatures=(1.0, 2.0), reasons={"k": "cheap"}),
    "run": RunConfig(
        classes=("a", "b"),
        spectro=SpectroConfig(),
        model=ModelConfig(experts=cnn_specs()),
        train=TrainConfig(),
    ),
}

BOUNDS: list[tuple[type[Frozen], str, Any]] = [
    (SpectroConfig, "frontend", "mfcc"),
    (SpectroConfig, "sample_rate_hz", 999),
    (SpectroConfig, "sample_rate_hz", 384_001),
    (SpectroConfig, "fmin_hz", -1.0),
    (SpectroConfig, "fmax_hz", 0.0),
    (SpectroConfig, "n_fft", 31),
    (SpectroConfig, "win_length", 15),
    (SpectroConfig, "hop_length", 0),
    (SpectroConfig, "num_bins", 15),
    (SpectroConfig, "segment_s", 0.0),
    (SpectroConfig, "segment_hop_s", 0.0),
    (SpectroConfig, "floor_db", 0.0),
    (ModelConfig, "task", "regression"),
    (ModelConfig, "num_classes", 1),
    (ModelConfig, "k_max", -1),
    (ModelConfig, "window_frames", 0),
    (ModelConfig, "router_evidence", ("mood",)),
    (ModelConfig, "router_evidence", ()),
    (ModelConfig, "expert_priors", {"low": 0.0}),
    (ModelConfig, "expert_priors", {"low": -1.0}),
    (ModelConfig, "stem_channels", 3),
    (ModelConfig, "expert_channels", 3),
    (ModelConfig, "dropout", 1.0),
    (ModelConfig, "dropout", -0.1),
    (TrainConfig, "epochs", 0),
    (TrainConfig, "batch_size", 0),
    (TrainConfig, "learning_rate", 0.0),
    (TrainConfig, "weight_decay", -0.1),
    (TrainConfig, "label_smoothing", 1.0),
    (TrainConfig, "mixup", 1.1),
    (TrainConfig, "ema_decay", 1.0),
    (TrainConfig, "num_workers", 0),
    (TrainConfig, "seed", -1),
    (TrainConfig, "device", "tpu"),
    (TrainConfig, "precision", "fp8"),
    (RoutingConfig, "selector", "guess"),
    (RoutingConfig, "window_fraction", 0.0),
    (RoutingConfig, "window_fraction", 1.01),
    (RoutingConfig, "uncertain_below", 1.01),
    (RoutingConfig, "temperatures", (1.0, 0.0)),
    (RunConfig, "schema_version", 1),
]


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_do_not_change(name):
    config = CONFIGS[name]
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, field, getattr(config, field))


@pytest.mark.parametrize("name", CONFIGS)
def test_unknown_fields_are_refused_by_name(name):
    config = CONFIGS[name]
    with pytest.raises(ValidationError, match=r"num_expert\n.*not permitted"):
        type(config).model_validate(config.model_dump() | {"num_expert": 3})


@pytest.mark.parametrize("name", CONFIGS)
def test_json_and_back_is_equal(name):
    config = CONFIGS[name]
    text = json.dumps(config.model_dump(mode="json"))
    assert type(config).model_validate(json.loads(text)) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("kind", "field", "value"), BOUNDS)
def test_values_out_of_bounds_are_refused_by_field(kind, field, value):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({field: value})
    assert field in [error["loc"][0] for error in caught.value.errors()]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("kind", "field"),
    [(SpectroConfig, "fmax_hz"), (TrainConfig, "learning_rate"), (RoutingConfig, "k_price")],
)
def test_numbers_are_finite(kind, field, bad):
    with pytest.raises(ValidationError, match="finite"):
        kind.model_validate({field: bad})


def test_defaults_are_valid_and_name_what_exists():
    model = ModelConfig(experts=cnn_specs())
    assert model.expert_names == EXPERT_NAMES
    assert model.router_evidence == get_args(RouterEvidence)
    assert RoutingConfig().window_fraction == 1.0
    assert TrainConfig().epochs is None


@pytest.mark.parametrize(
    ("band", "said"),
    [((4000.0, 4000.0), "must rise"), ((5000.0, 100.0), "must rise"), ((0.0, 8000.1), "Nyquist")],
)
def test_a_band_rises_and_stays_under_nyquist(band, said):
    with pytest.raises(ValidationError, match=said):
        SpectroConfig(fmin_hz=band[0], fmax_hz=band[1], sample_rate_hz=16000)


def test_a_window_fits_its_transform():
    assert SpectroConfig(n_fft=400, win_length=400).win_length == 400
    with pytest.raises(ValidationError, match="win_length 401 exceeds n_fft 400"):
        SpectroConfig(n_fft=400, win_length=401)


def test_samples_frames_and_frame_rate_follow_from_the_segment():
    spectro = SpectroConfig(sample_rate_hz=8000, fmax_hz=4000.0, segment_s=0.5, hop_length=80)
    assert spectro.segment_samples == 4000
    assert spectro.num_frames == 51
    assert spectro.frame_rate_hz == 100.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"experts": [{"kind": "cnn", "name": "loud", "band_hz": (0, 1)}]},
            "unknown expert 'loud'",
        ),
        ({"experts": [{"kind": "cnn", "name": "low", "band_hz": (9, 1)}]}, "must rise"),
        ({"experts": [{"kind": "oracle", "name": "low", "band_hz": (0, 1)}]}, "expected tags"),
        ({"experts": cnn_specs("low", "low")}, "repeat a name"),
        ({"experts": ()}, "at least 1 item"),
        ({"masked_experts": ("loud",)}, "must be among experts"),
        ({"experts": cnn_specs("low"), "masked_experts": ("low",)}, "at least one expert"),
        ({"experts": cnn_specs("low", "mid", "high"), "masked_experts": ("low",)}, "k_max exceeds"),
        ({"k_max": 9}, "k_max exceeds"),
        ({"expert_priors": {"loud": 2.0}}, "expert_priors must be of experts"),
    ],
)
def test_a_mixture_that_cannot_be_built_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        ModelConfig(**{"experts": cnn_specs()} | settings)


@pytest.mark.parametrize("k_max", [0, 1, 8])
def test_every_count_up_to_all_experts_is_allowed(k_max):
    assert ModelConfig(experts=cnn_specs(), k_max=k_max).k_max == k_max


def test_classes_and_model_agree():
    with pytest.raises(ValidationError, match=r"classes and model\.num_classes disagree"):
        RunConfig(
            classes=("a", "b", "c"),
            spectro=SpectroConfig(),
            model=ModelConfig(experts=cnn_specs()),
            train=TrainConfig(),
        )


def test_classes_do_not_repeat():
    with pytest.raises(ValidationError, match="classes repeat a name"):
        CONFIGS["run"].model_validate(CONFIGS["run"].model_dump() | {"classes": ("a", "a")})


def test_bins_divide_into_the_bands_of_the_stem():
    with pytest.raises(ValidationError, match="multiple of 16"):
        CONFIGS["run"].model_validate(CONFIGS["run"].model_dump() | {"spectro": {"num_bins": 40}})


def test_a_segment_holds_one_window_at_least():
    with pytest.raises(ValidationError, match=r"segment_s 0\.01 is shorter than one window"):
        SpectroConfig(segment_s=0.01)


@pytest.mark.parametrize("budget", ["accuracy", "latency", 0.0, 1.5])
def test_a_budget_is_a_word_or_a_number_and_keeps_its_kind(budget):
    back = RoutingConfig.model_validate_json(RoutingConfig(budget=budget).model_dump_json())
    assert back.budget == budget
    assert type(back.budget) is type(budget)
