"""A small mixture with fixed weights, and spectrograms with a planted event."""

from collections.abc import Callable

import pytest
import torch
from matplotlib.figure import Figure

from xmoe.config import ModelConfig, RoutingConfig, SpectroConfig
from xmoe.explain.subject import Subject
from xmoe.frontend.registry import build_frontend
from xmoe.model.moe import MoE

CLASSES = ("click", "tone", "sweep")


@pytest.fixture(scope="session")
def model() -> MoE:
    """Return an untrained mixture of four experts, one of them masked, in eval mode."""
    config = ModelConfig(
        num_classes=3,
        experts=("broadband", "low", "transient", "high_band"),
        masked_experts=("high_band",),
        k_max=2,
        window_frames=2,
        stem_channels=8,
        expert_channels=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MoE(config, num_bins=32)
        torch.nn.init.normal_(made.stem.head.weight)
    return made.eval()


@pytest.fixture(scope="session")
def specs() -> torch.Tensor:
    """Return noise [3, 32, 41] with a loud event in bins 8-11, frames 20-27 of each clip."""
    generator = torch.Generator().manual_seed(1)
    spec = torch.randn(3, 32, 41, generator=generator)
    spec[:, 8:12, 20:28] += 6.0
    return (spec - spec.mean((1, 2), keepdim=True)) / spec.std((1, 2), keepdim=True)


@pytest.fixture(scope="session")
def subject(model: MoE) -> Subject:
    """Return the mixture with a front end of 32 mel bins and a routing of half the windows."""
    spectro = SpectroConfig(num_bins=32, segment_s=0.4)
    routing = RoutingConfig(window_fraction=0.5, temperatures=(1.0, 2.0, 0.5))
    return Subject(model, build_frontend(spectro), routing, CLASSES)


@pytest.fixture
def cut_off() -> Callable[[Figure], float]:
    """Return the function that measures by how many inches a figure is cut off at its edge."""

    def measure(figure: Figure) -> float:
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        return max(0.0, -box.x0, -box.y0, box.x1 - width, box.y1 - height)

    return measure
