"""The stem: its shapes, its smooth maximum, its bands and its price."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig
from xmoe.glance.stem import Stem, stem_columns


@pytest.fixture
def stem() -> Stem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = Stem(num_bins=32, channels=8, num_classes=5)
        nn.init.normal_(made.head.weight)
        nn.init.normal_(made.head.bias)
    return made.eval()


def features_of(columns: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 8, 8, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 41])
@pytest.mark.parametrize("bins", [16, 64])
def test_map_is_a_quarter_of_the_spectrogram_rounded_up_in_time(bins, frames):
    stem = Stem(num_bins=bins, channels=8, num_classes=5).eval()
    output = stem(torch.zeros(2, bins, frames))
    columns = math.ceil(frames / 4)
    assert output.features.shape == (2, 8, bins // 4, columns)
    assert output.column_logits.shape == (2, 5, columns)
    assert output.logits.shape == (2, 5)
    assert output.attention.shape == (2, 5, columns)
    assert stem_columns(frames) == columns
    assert stem.num_rows == bins // 4


def test_column_logits_equal_a_slow_loop_over_bands(stem):
    features = features_of(3)
    weight = stem.head.weight.detach().view(5, 8, 4)
    got = stem.answer(features).column_logits.detach()
    for clip in range(2):
        for label in range(5):
            for column in range(3):
                expected = sum(
                    float(weight[label, channel, band])
                    * float(features[clip, channel, 2 * band : 2 * band + 2, column].mean())
                    for channel in range(8)
                    for band in range(4)
                )
                assert float(got[clip, label, column]) == pytest.approx(expected, abs=1e-4)


def test_pooling_is_the_log_of_the_mean_of_exponentials(stem):
    with torch.no_grad():
        stem.log_sharpness.fill_(math.log(2.5))
    output = stem.answer(features_of(6))
    slow = (2.5 * output.column_logits).exp().mean(2).log() / 2.5 + stem.head.bias
    torch.testing.assert_close(output.logits, slow)


def test_attention_is_the_gradient_of_the_pooling(stem):
    column_logits = stem.answer(features_of(6)).column_logits.detach().requires_grad_()
    column_logits.exp().mean(2).log().sum().backward()
    torch.testing.assert_close(stem.answer(features_of(6)).attention, column_logits.grad)


@pytest.mark.parametrize(("log_sharpness", "pool"), [(-7.0, "mean"), (7.0, "amax")])
def test_sharpness_runs_from_the_mean_to_the_maximum(stem, log_sharpness, pool):
    with torch.no_grad():
        stem.log_sharpness.fill_(log_sharpness)
        output = stem.answer(features_of(6))
    expected = getattr(output.column_logits, pool)(2) + stem.head.bias
    torch.testing.assert_close(output.logits, expected, atol=2e-2, rtol=0)


def test_a_steady_map_answers_as_each_of_its_columns(stem):
    steady = features_of(1).expand(-1, -1, -1, 9)
    torch.testing.assert_close(stem.answer(steady).logits, stem.answer(features_of(1)).logits)


def test_sharpening_multiplies_logits_and_moves_nothing(stem):
    features, other = features_of(6), copy.deepcopy(stem)
    other.sharpen(2.5)
    before, after = stem.answer(features), other.answer(features)
    torch.testing.assert_close(after.logits, 2.5 * before.logits)
    torch.testing.assert_close(after.attention, before.attention)
    belief = torch.softmax(before.logits, 1)
    torch.testing.assert_close(
        other.activate(after, belief), 2.5 * stem.activate(before, belief), atol=1e-6, rtol=1e-5
    )


def test_row_bias_tells_equal_rows_apart(stem):
    flat = torch.zeros(1, 32, 16)
    with torch.no_grad():
        before = stem.map_features(flat)
        stem.row_bias[:, :, 4] += 3.0
        moved = (stem.map_features(flat) - before).abs().amax((0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [3, 4, 5]


def test_bins_that_do_not_divide_into_bands_are_refused_by_number():
    with pytest.raises(ValueError, match="num_bins 40 must be a multiple of 16"):
        Stem(num_bins=40, channels=8, num_classes=2)


def test_default_stem_is_light_in_weights_and_in_work():
    config = ModelConfig(experts=cnn_specs(), num_classes=10)
    stem = Stem(num_bins=64, channels=config.stem_channels, num_classes=10).eval()
    work = []
    for part in stem.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(
                lambda conv, _, out: work.append(out[0, 0].numel() * conv.weight.numel())
            )
    stem(torch.zeros(1, 64, 101))
    assert sum(p.numel() for p in stem.parameters()) < 12_000
    assert len(work) == 3
    assert sum(work) < 4_000_000
