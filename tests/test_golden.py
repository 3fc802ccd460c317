"""Answers that must not move: a mixture with fixed weights, asked in every way there is.

The weights and the answers on whole maps were written before experts had kinds; where saliency
picks windows or the gate reads it, they are of its present form. Recordings longer than a segment
have the answers of segments that are measured each by itself (docs/decisions/0005-segments.md).
"""

import asyncio
import json
import socket
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from safetensors.torch import load_file

from tests.fixtures.mixtures import cnn_specs
from xmoe.audio.clip import Clip, read_clip
from xmoe.base.config import ModelConfig, RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.batch.answers import answer_clips
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder

GOLDEN = Path(__file__).parent / "golden"
ANSWERS = json.loads((GOLDEN / "answers.json").read_text())
TOPOLOGIES = ("colocated", "distributed")
EXPERTS = ("broadband", "low", "transient", "high_band", "harmonic")
# Seconds, sampling rate in Hz, seed.
CLIPS = {
    "short": (0.25, 8000, 1),
    "one segment": (0.4, 8000, 2),
    "resampled": (0.4, 16000, 3),
    "long": (1.37, 8000, 4),
    "long, resampled": (1.11, 16000, 0),
}
RUNS = {
    "one label": (
        {},
        {
            "window_fraction": 0.5,
            "k_price": 0.05,
            "temperatures": (1.0, 1.3, 0.7),
            "uncertain_below": 0.4,
        },
    ),
    "several labels": (
        {"task": "multi_label"},
        {"selector": "energy", "window_fraction": 0.25, "k_price": -1.0},
    ),
    "whole map": ({"masked_experts": ("high_band",)}, {"selector": "cam", "k_price": -1.0}),
}
EVERY_CASE = [(run, clip) for run in RUNS for clip in CLIPS]


def make_sound(seconds: float, rate_hz: int, seed: int) -> np.ndarray:
    """Return bursts of a tone in noise, in whole numbers as far as it goes: the same anywhere."""
    index = np.arange(round(seconds * rate_hz), dtype=np.int64)
    noise = (index * index * (2 * seed + 1) * 7919 + index * 104_729) % 65_521 / 65_521 - 0.5
    time_s = index / rate_hz
    sounds = np.floor(time_s * 5) % 2 == seed % 2
    burst = sounds * np.sin(2 * np.pi * (400 + 700 * seed) * time_s)
    return (0.1 * noise + 0.3 * burst).astype(np.float32)


def make_config(name: str) -> RunConfig:
    model, routing = RUNS[name]
    return RunConfig(
        classes=("click", "sweep", "tone"),
        spectro=SpectroConfig(
            sample_rate_hz=8000,
            fmax_hz=4000.0,
            n_fft=256,
            win_length=200,
            hop_length=80,
            num_bins=16,
            segment_s=0.4,
            segment_hop_s=0.2,
        ),
        model=ModelConfig(
            num_classes=3,
            experts=cnn_specs(*EXPERTS),
            k_max=2,
            window_frames=2,
            stem_channels=8,
            expert_channels=4,
            **model,
        ),
        train=TrainConfig(),
        routing=RoutingConfig(**routing),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Return the run folders, one for each way to route; all have the same weights."""
    parts: dict[str, dict] = {}
    for key, value in load_file(GOLDEN / "weights.safetensors").items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = value
    root = tmp_path_factory.mktemp("golden")
    for name in RUNS:
        folder = RunFolder(root / name.replace(" ", "-"))
        folder.write_record("run_config.json", make_config(name))
        folder.save_checkpoint("best", parts, {}, which=("best", "last"))
    return {name: root / name.replace(" ", "-") for name in RUNS}


@pytest.fixture(scope="module")
def wavs(tmp_path_factory) -> dict[str, Path]:
    """Return the recordings as files of 32-bit floats."""
    root = tmp_path_factory.mktemp("clips")
    for name, (seconds, rate_hz, seed) in CLIPS.items():
        samples = make_sound(seconds, rate_hz, seed)
        sf.write(root / f"{name}.wav", samples, rate_hz, subtype="FLOAT")
    return {name: root / f"{name}.wav" for name in CLIPS}


def expect(found: object, wanted: list[float]) -> None:
    assert list(found) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("run", "clip"), EVERY_CASE)
def test_in_this_process(runs, run, clip):
    predictor, wanted = Predictor.load(runs[run]), ANSWERS[run][clip]
    seconds, rate_hz, seed = CLIPS[clip]
    samples = make_sound(seconds, rate_hz, seed)
    answer = predictor.predict(samples, rate_hz)
    expect(answer.probabilities.values(), wanted["chosen"])
    assert answer.k == pytest.approx(wanted["k"])
    for k in range(3):
        fixed = predictor.predict(samples, rate_hz, k=k)
        expect(fixed.probabilities.values(), wanted[f"k = {k}"])


@pytest.mark.parametrize("run", RUNS)
def test_in_batch(runs, wavs, run):
    clips: list[tuple[str, Clip]] = [(name, read_clip(path)) for name, path in wavs.items()]
    for name, answer in answer_clips(Predictor.load(runs[run]), clips):
        expect(answer.probabilities.values(), ANSWERS[run][name]["chosen"])


@pytest.mark.parametrize("run", RUNS)
def test_over_http_with_the_experts_in_the_router(runs, wavs, run):
    from xmoe.serve.experts.local import LocalExperts
    from xmoe.serve.http.explainer import Explainer
    from xmoe.serve.http.service import Service
    from xmoe.serve.router.router import RouterCore, load_router
    from xmoe.serve.schemas import Options
    from xmoe.serve.settings import ServeSettings

    settings = ServeSettings(run=str(runs[run]), topology="colocated")
    predictor = load_router(settings)
    callers = LocalExperts.load(settings, predictor.config).callers()
    router = RouterCore(predictor, callers, settings)
    service = Service(router, explainer=Explainer(str(runs[run]), predictor.config))
    try:
        for name, path in wavs.items():
            answer = asyncio.run(service.classify_bytes(path.read_bytes(), Options()))
            expect(answer.probabilities.values(), ANSWERS[run][name]["chosen"])
    finally:
        router.close()


@pytest.fixture(scope="module")
def address(runs):
    """The address of a local Serve with one of the runs in both topologies."""
    with warnings.catch_warnings():  # Ray warns of its own settings
        warnings.simplefilter("ignore")
        import ray
        from ray import serve

        from xmoe.serve.start.build import build

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        for topology in TOPOLOGIES:
            settings = {
                "run": str(runs["one label"]),
                "topology": topology,
                "router": {"num_cpus": 0.0, "replicas": 1},
                "expert": {"num_cpus": 0.0},
                "faults": {"deadline_ms": 20_000.0},
            }
            serve.run(build(settings), name=topology, route_prefix=f"/{topology}")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_over_http_from_deployments(address, wavs, topology):
    for name, path in wavs.items():
        request = urllib.request.Request(
            f"{address}/{topology}/v1/classify", data=path.read_bytes()
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        expect(answer["probabilities"].values(), ANSWERS["one label"][name]["chosen"])
        assert not answer["degraded"]
