"""The page about a classifier states sizes, weights and costs that are its own."""

import re

import pytest
from torch import nn

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig, RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.mixture.moe import MoE
from xmoe.pipeline.architecture import count_weights, describe_architecture, describe_usage
from xmoe.predict.predictor import Predictor

MACS = {"stem": 1.5, "broadband": 0.25, "low": 0.125, "mean_answer": 1.6875}


@pytest.fixture(scope="module")
def predictor():
    config = RunConfig(
        classes=("whale", "ship"),
        spectro=SpectroConfig(num_bins=32, segment_s=1.0),
        model=ModelConfig(
            experts=cnn_specs("broadband", "low", "high_band"),
            masked_experts=("high_band",),
            k_max=2,
            stem_channels=8,
            expert_channels=4,
        ),
        train=TrainConfig(),
        routing=RoutingConfig(window_fraction=0.25, reasons={"windows": "they were enough"}),
    )
    return Predictor(config, MoE(config.model, config.spectro))


@pytest.fixture(scope="module")
def page(predictor):
    return describe_architecture(predictor, MACS)


def test_weights_of_a_module_are_counted():
    assert count_weights(nn.Linear(3, 2)) == 8
    assert count_weights(nn.Conv2d(1, 4, (3, 5), bias=False)) == 60


def test_page_names_task_front_end_and_shapes(page):
    assert page.startswith("xmoe single_label, 2 classes: whale, ship\n")
    assert "logmel: 1 s at 16 kHz -> [32, 101], 0 Hz to 8 kHz, window 400, hop 160" in page
    assert "stem       -> [8, 8, 26]" in page
    assert "1.50 MMAC" in page
    assert "0.25 of the windows of 4 columns, by saliency" in page
    assert "K from 0 to 2" in page


def test_weights_on_the_page_add_up(page, predictor):
    numbers = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) weights", page)]
    assert len(numbers) == 5
    (total,) = re.findall(r"weights in all ([\d,]+)", page)
    assert sum(numbers) == int(total.replace(",", "")) == count_weights(predictor.model)


def test_each_expert_has_its_band_and_cost_and_a_masked_one_says_so(page):
    lines = {line.split()[0]: line for line in page.splitlines() if line.startswith("  ")}
    assert set(lines) == {"broadband", "low", "high_band"}
    assert "cnn: 0 Hz to 4 kHz, kernels 3x3 3x3" in lines["broadband"]
    assert "0.25 MMAC" in lines["broadband"]
    assert "kernels 3x3 3x3" in lines["low"]
    assert lines["high_band"].endswith("masked")


def test_page_ends_with_cost_and_reasons(page):
    assert "a mean answer costs 1.69 MMAC per segment" in page
    assert page.endswith("windows: they were enough\n")


def test_usage_lists_the_busiest_expert_first():
    usage = {
        "selection_rate": {"low": 0.25, "high": 0.5},
        "mean_weight": {"low": 0.2, "high": 0.4},
        "k_histogram": {"0": 3, "1": 5},
        "mean_k": 0.75,
        "load_balance": 0.9,
    }
    lines = describe_usage(usage).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["expert", "high", "low"]
    assert lines[1].split()[1:] == ["50.0%", "0.400"]
    assert lines[3] == "mean K 0.75 (K = 0: 3, K = 1: 5); load balance 0.90"
