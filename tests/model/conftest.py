"""Small mixtures with fixed, not trivial weights, and spectrograms with a planted event."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xmoe.config import ModelConfig
from xmoe.model.moe import MoE
from xmoe.model.plan import Plan, quantise

NAMES = ("broadband", "low", "transient", "high_band")


def shake(model: nn.Module) -> None:
    """Give batch norms statistics of their own, and every linear map weights of order one."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.5)
            nn.init.normal_(part.bias, std=0.5)


@pytest.fixture(scope="session")
def build() -> Callable[..., MoE]:
    """Return the function that makes a mixture of four experts in eval mode, by seed."""

    def make(*, seed: int = 0, num_bins: int = 32, **changes: Any) -> MoE:
        settings: dict[str, Any] = {
            "num_classes": 3,
            "experts": NAMES,
            "k_max": 2,
            "window_frames": 2,
            "stem_channels": 8,
            "expert_channels": 4,
        }
        config = ModelConfig(**settings | changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = MoE(config, num_bins=num_bins)
            shake(made)
        return made.eval()

    return make


@pytest.fixture(scope="session")
def model(build: Callable[..., MoE]) -> MoE:
    """Return a mixture of four experts, the last of them masked."""
    return build(masked_experts=("high_band",))


@pytest.fixture(scope="session")
def make_specs() -> Callable[..., Tensor]:
    """Return the function that makes normalised noise [B, F, T] with a loud event in each clip."""

    def make(batch: int = 3, *, bins: int = 32, frames: int = 41, seed: int = 1) -> Tensor:
        spec = torch.randn(batch, bins, frames, generator=torch.Generator().manual_seed(seed))
        for clip in range(batch):
            first = (5 * clip) % max(1, frames - 8)
            spec[clip, 8:12, first : first + 8] += 6.0
        return (spec - spec.mean((1, 2), keepdim=True)) / spec.std((1, 2), keepdim=True)

    return make


@pytest.fixture(scope="session")
def specs(make_specs: Callable[..., Tensor]) -> Tensor:
    """Return spectrograms [3, 32, 41]: a stem map of 8 rows and 11 columns, six ragged windows."""
    return make_specs()


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    """Return the function that makes a plan by hand from weights [B, E] of the four experts."""

    def make(weights: list[list[float]], *, keep: int = 2, columns: int = 11) -> Plan:
        generator = torch.Generator().manual_seed(7)
        batch, total = len(weights), -(-columns // 2)
        features = torch.rand(batch, 8, 8, columns, generator=generator)
        quantised, scale = quantise(features)
        scores = torch.rand(batch, len(NAMES), total, generator=generator)
        return Plan(
            expert_names=NAMES,
            window_frames=2,
            stem_logits=torch.randn(batch, 3, generator=generator),
            gate=torch.full((batch, len(NAMES)), 1 / len(NAMES)),
            weights=torch.tensor(weights),
            windows=scores.topk(keep, dim=2).indices.sort(dim=2).values,
            promises=torch.rand(batch, 3, generator=generator),
            window_scores=scores,
            quantised=quantised,
            scale=scale,
        )

    return make
