"""Experts: the rows they see, any width they are sent, and that each is a whole by itself."""

import pytest
import torch
from safetensors.torch import load, save

from xmoe.base.config import EXPERT_NAMES, ModelConfig
from xmoe.experts.cnn import EXPERT_SHAPES, Expert, band_masks, band_rows
from xmoe.mixture.moe import MoE

ROWS = {
    "broadband": (0, 16),
    "low": (0, 8),
    "high": (8, 16),
    "transient": (0, 16),
    "harmonic": (0, 16),
    "fine_frequency": (0, 16),
    "mid": (4, 12),
    "high_band": (12, 16),
}


@pytest.fixture(scope="module")
def crowd(build) -> MoE:
    """Return a mixture of all eight experts on a map of 16 rows."""
    return build(num_bins=64, experts=EXPERT_NAMES, k_max=3)


def windows_for(name: str, columns: int, batch: int = 2) -> torch.Tensor:
    first, last = ROWS[name]
    generator = torch.Generator().manual_seed(columns)
    return torch.rand(batch, 8, last - first, columns, generator=generator)


def test_every_expert_of_the_configuration_has_a_shape():
    assert tuple(EXPERT_SHAPES) == EXPERT_NAMES


@pytest.mark.parametrize("name", EXPERT_NAMES)
def test_bands_are_the_rows_of_the_description(name):
    assert band_rows(name, 16) == ROWS[name]
    first, last = band_rows(name, 4)
    assert 0 <= first < last <= 4


def test_masks_mark_the_rows_that_are_seen():
    masks = band_masks(("low", "high_band", "mid"), 8)
    assert masks.tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 1, 1, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 24])
@pytest.mark.parametrize("name", EXPERT_NAMES)
def test_each_expert_answers_alone_from_its_own_weights_file(crowd, name, columns):
    alone = Expert(name, in_channels=8, channels=4, num_classes=3).eval()
    alone.load_state_dict(load(save(crowd.experts[name].state_dict())))
    windows = windows_for(name, columns)
    logits = alone(windows)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, crowd.experts[name](windows))


@pytest.mark.parametrize("name", EXPERT_NAMES)
def test_clips_of_a_batch_do_not_touch_each_other(crowd, name):
    windows = windows_for(name, 8, batch=3)
    together = crowd.experts[name](windows)
    single = torch.cat([crowd.experts[name](windows[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, single)


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("broadband", 4, 4),
        ("low", 4, 4),
        ("transient", 2, 8),
        ("harmonic", 8, 4),
        ("fine_frequency", 16, 2),
        ("high_band", 4, 4),
    ],
)
def test_strides_are_the_experts_bias(crowd, name, rows, columns):
    mapped = crowd.experts[name].map_features(windows_for(name, 8))
    assert mapped.shape == (2, 8, rows, columns)


def test_answer_reads_the_mean_and_the_maximum_of_each_channel():
    expert = Expert("low", in_channels=2, channels=1, num_classes=2).eval()
    with torch.no_grad():
        expert.head.weight.copy_(torch.tensor([[1.0, 10, 100, 1000], [0, 0, 0, 1]]))
        expert.head.bias.zero_()
    features = torch.tensor([[[[0.0, 4.0]], [[1.0, 2.0]]]])
    assert expert.answer(features).tolist() == [[2 + 15 + 400 + 2000, 2]]


def test_dropout_acts_in_training_only():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expert = Expert("low", in_channels=2, channels=4, num_classes=2, dropout=0.9)
        features = torch.rand(4, 8, 2, 3)
        assert torch.equal(expert.eval().answer(features), expert.answer(features))
        trained = [expert.train().answer(features) for _ in range(2)]
    assert not torch.equal(*trained)


def test_experts_are_larger_than_the_stem_yet_light():
    made = MoE(ModelConfig(num_classes=10), num_bins=64)
    sizes = {name: sum(p.numel() for p in e.parameters()) for name, e in made.experts.items()}
    stem = sum(p.numel() for p in made.stem.parameters())
    assert min(sizes.values()) > stem
    assert max(sizes.values()) < 80_000
