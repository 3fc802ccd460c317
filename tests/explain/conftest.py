"""Small mixtures with fixed weights, spectrograms with a planted event, and a sound."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from matplotlib.figure import Figure

from tests.fixtures.closed_runs import closed_config, closed_model, write_backbone_run
from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.audio.segment import Segment
from xmoe.audio.sound import Sound, hold_sound
from xmoe.base.config import ModelConfig, RoutingConfig, SpectroConfig
from xmoe.explain.subject import Subject
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.mixture.moe import MoE, TrainingDraws
from xmoe.policy.records import list_specs
from xmoe.predict.predictor import Predictor

SPECTRO = SpectroConfig(num_bins=32, segment_s=0.4)
CLASSES = ("click", "tone", "sweep")


@pytest.fixture(scope="session")
def model() -> MoE:
    """Return an untrained mixture of four experts, one of them masked, in eval mode."""
    config = ModelConfig(
        num_classes=3,
        experts=list_specs(("broadband", "low", "transient", "high_band"), SPECTRO),
        masked_experts=("high_band",),
        k_max=2,
        window_frames=2,
        stem_channels=8,
        expert_channels=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MoE(config, SPECTRO)
        torch.nn.init.normal_(made.stem.head.weight)
    return made.eval()


@pytest.fixture(scope="session")
def specs() -> torch.Tensor:
    """Return noise [3, 32, 41] with a loud event in bins 8-11, frames 20-27 of each clip."""
    generator = torch.Generator().manual_seed(1)
    spec = torch.randn(3, 32, 41, generator=generator)
    spec[:, 8:12, 20:28] += 6.0
    return (spec - spec.mean((1, 2), keepdim=True)) / spec.std((1, 2), keepdim=True)


def make_clips(
    clips: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noise [n, 32, 41] with an event of 4 bins by 8 frames, its class [n] and its mask.

    The class says how high the event lies: bins 4, 14 or 24 upward.
    """
    spec = torch.randn(clips, 32, 41, generator=generator)
    ids = torch.arange(clips) % 3
    starts = torch.randint(0, 33, (clips,), generator=generator)
    masks = torch.zeros(clips, 32, 41, dtype=torch.bool)
    for clip, (label, start) in enumerate(zip(ids.tolist(), starts.tolist(), strict=True)):
        masks[clip, 4 + 10 * label : 8 + 10 * label, start : start + 8] = True
    spec = spec + 2.5 * masks
    return (spec - spec.mean((1, 2), keepdim=True)) / spec.std((1, 2), keepdim=True), ids, masks


@pytest.fixture(scope="session")
def trained(model: MoE) -> MoE:
    """Return the mixture after 100 steps on events whose height says their class."""
    learner = MoE(model.config, SPECTRO).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        learner.load_state_dict(MoE(model.config, SPECTRO).state_dict())
        generator = torch.Generator().manual_seed(2)
        optimiser = torch.optim.AdamW(learner.parameters(), lr=4e-3)
        for _ in range(100):
            spec, ids, _ = make_clips(16, generator)
            noise = 0.1 * torch.rand(16, 4, 6, generator=generator)
            output = learner(spec, TrainingDraws(keep=3, window_noise=noise))
            answers = torch.cat([output.stem.unsqueeze(0), output.full, output.part])
            each = torch.stack([torch.nn.functional.cross_entropy(a, ids) for a in answers])
            gated = torch.einsum("ebc,be->bc", output.full, torch.softmax(output.gate, 1))
            right = (answers[0].argmax(1) == ids).float().unsqueeze(1).expand_as(output.count)
            loss = each.mean() + torch.nn.functional.cross_entropy(gated, ids)
            loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(output.count, right)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return learner.eval()


@pytest.fixture(scope="session")
def boxed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return 12 clips [n, 32, 41] that training never saw, their classes and their masks."""
    return make_clips(12, torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def trained_subject(trained: MoE, subject: Subject) -> Subject:
    """Return the trained mixture with the front end and routing of the untrained one."""
    return dataclasses.replace(subject, model=trained)


@pytest.fixture(scope="session")
def subject(model: MoE) -> Subject:
    """Return the mixture with a front end of 32 mel bins and a routing of half the windows."""
    routing = RoutingConfig(window_fraction=0.5, temperatures=(1.0, 2.0, 0.5))
    return Subject(model, build_frontend(SPECTRO), routing, CLASSES)


@pytest.fixture(scope="session")
def closed() -> Subject:
    """Return a mixture of three experts that hear sound, as if fitted in closed form."""
    config = closed_config()
    frontend = build_frontend(config.spectro)
    return Subject(closed_model(config, seed=1), frontend, config.routing, config.classes)


@pytest.fixture(scope="session")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Return such a mixture whose third expert asks a network about two windows of 80 ms."""
    run = tmp_path_factory.mktemp("asking") / "run"
    own = Predictor.load(write_backbone_run(run, seed=1, k_price=-1000.0))
    return Subject(own.model, own.frontend, own.config.routing, own.config.classes)


@pytest.fixture(scope="session")
def heard(closed: Subject) -> tuple[torch.Tensor, Sound]:
    """Return the spectrogram [16, 41] of a tone in noise, and its sound."""
    segment = Segment(make_sound(0.4, seed=1), RATE_HZ, 0)
    power = measure_segments([segment], closed.frontend)
    return closed.frontend.compress(*power)[0], hold_sound([segment])


@pytest.fixture
def cut_off() -> Callable[[Figure], float]:
    """Return the function that measures by how many inches a figure is cut off at its edge."""

    def measure(figure: Figure) -> float:
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        return max(0.0, -box.x0, -box.y0, box.x1 - width, box.y1 - height)

    return measure
