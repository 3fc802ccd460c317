"""Experts: the rows they see, any width they are sent, and that each is a whole by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import EXPERT_NAMES, ModelConfig, SpectroConfig
from xmoe.experts.cnn import (
    EXPERT_SHAPES,
    CnnExpert,
    band_rows,
    gather_windows,
    span_columns,
    window_columns,
)
from xmoe.experts.protocol import Inputs
from xmoe.glance.spans import choose_windows, num_windows, window_edges_s
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import spans_of

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
    return build(num_bins=64, experts=cnn_specs(), k_max=3)


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


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 24])
@pytest.mark.parametrize("name", EXPERT_NAMES)
def test_each_expert_answers_alone_from_its_own_weights_file(crowd, name, columns):
    alone = CnnExpert(name, in_channels=8, channels=4, num_classes=3).eval()
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
    expert = CnnExpert("low", in_channels=2, channels=1, num_classes=2).eval()
    with torch.no_grad():
        expert.head.weight.copy_(torch.tensor([[1.0, 10, 100, 1000], [0, 0, 0, 1]]))
        expert.head.bias.zero_()
    features = torch.tensor([[[[0.0, 4.0]], [[1.0, 2.0]]]])
    assert expert.read_map(features).tolist() == [[2 + 15 + 400 + 2000, 2]]


def test_dropout_acts_in_training_only():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expert = CnnExpert("low", in_channels=2, channels=4, num_classes=2, dropout=0.9)
        features = torch.rand(4, 8, 2, 3)
        assert torch.equal(expert.eval().read_map(features), expert.read_map(features))
        trained = [expert.train().read_map(features) for _ in range(2)]
    assert not torch.equal(*trained)


def test_experts_are_larger_than_the_stem_yet_light():
    made = MoE(ModelConfig(experts=cnn_specs(), num_classes=10), SpectroConfig(num_bins=64))
    sizes = {name: sum(p.numel() for p in e.parameters()) for name, e in made.experts.items()}
    stem = sum(p.numel() for p in made.stem.parameters())
    assert min(sizes.values()) > stem
    assert max(sizes.values()) < 80_000


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), columns=st.integers(1, 11), window_frames=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_gathered_windows_equal_a_slow_loop_with_a_ragged_end(seed, columns, window_frames):
    features = noise(2, 3, 2, columns, seed=seed)
    total = num_windows(columns, window_frames)
    keep = 1 + seed % total
    windows = choose_windows(noise(2, total, seed=seed + 1), keep)
    gathered = gather_windows(features, windows, window_frames)
    assert gathered.shape == (2, 3, 2, keep * window_frames)
    for clip in range(2):
        wanted = [
            min(columns - 1, int(window) * window_frames + offset)
            for window in windows[clip]
            for offset in range(window_frames)
        ]
        assert torch.equal(gathered[clip], features[clip][:, :, wanted])


def test_gathering_every_window_of_an_even_map_gives_the_map():
    features = noise(2, 3, 2, 8)
    windows = torch.arange(4).expand(2, 4)
    assert torch.equal(gather_windows(features, windows, 2), features)


@given(columns=st.integers(1, 40), width=st.integers(1, 5), frame_ms=st.sampled_from([2, 7, 10]))
@settings(deadline=None, max_examples=60)
def test_spans_in_seconds_are_the_columns_that_were_meant(columns, width, frame_ms):
    frame_s = frame_ms / 1000
    windows = torch.arange(num_windows(columns, width)).unsqueeze(0)
    spans = spans_of(windows, window_edges_s(columns, width, 4 * columns, frame_s))
    inputs = Inputs(torch.zeros(1, 1, 1, columns), torch.ones(1), 4 * frame_s, width)
    assert torch.equal(span_columns(spans, inputs), window_columns(windows, width, columns))


def test_an_expert_answers_what_was_packed_for_it_as_it_answers_the_map(crowd):
    levels = (255 * noise(3, 8, 16, 6)).to(torch.uint8)
    inputs = Inputs(levels, torch.tensor([0.1, 0.2, 0.3]), 0.04, 2)
    spans = spans_of(torch.tensor([[0, 2], [1, 2]]), (0.0, 0.075, 0.155, 0.235))
    spec = crowd.config.spec_of("low")
    payload = CnnExpert.pack(spec, inputs, torch.tensor([0, 2]), spans)
    maps = levels[[0, 2], :, :8].float() * torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    seen = torch.stack([maps[0][..., [0, 1, 4, 5]], maps[1][..., [2, 3, 4, 5]]])
    expert = crowd.experts["low"]
    assert torch.equal(expert.answer(payload), expert(seen))
