"""Folders of tones and of scenes, one run fitted to each, and requests to fit more."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fixtures.closed import (
    SOURCES,
    SPECTRO,
    backbone_run,
    closed_fit,
    closed_job,
    closed_run,
    few_families,
    leaky,
    loud_scenes,
    mixed,
    scenes,
    tiny_card,
    voices,
)
from tests.fixtures.fitted import fitted, small, tone, tones, write_tones
from xmoe.audio.dataset import load_dataset
from xmoe.audio.store import load_clips
from xmoe.base.config import ModelConfig, RunConfig, TrainConfig
from xmoe.experts.kernels import KernelsEar
from xmoe.mixture.moe import MoE, split_weights
from xmoe.pipeline import network, trained_stem
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.network import add_network
from xmoe.pipeline.request import FitRequest
from xmoe.policy.records import PolicyOverrides, list_specs
from xmoe.run.folder import RunFile, RunFolder, answering_parts
from xmoe.training import closed
from xmoe.training.ears import StemEar
from xmoe.training.pieces import cut_training

RATE_HZ = 8000

# Sources that come later: two of training and one of validation.
LATER = {7, 8, SOURCES["train"] + 2}

__all__ = [
    "backbone_run",
    "closed_fit",
    "closed_job",
    "closed_run",
    "few_families",
    "fitted",
    "leaky",
    "loud_scenes",
    "mixed",
    "scenes",
    "small",
    "tiny_card",
    "tone",
    "tones",
    "voices",
    "write_tones",
]


@pytest.fixture
def request_for(small, undrawn):
    """The function that makes a request to fit a folder of tones; its pictures stay empty."""

    def make(root, out, *, train=None, **changes):
        settings = {"epochs": small["epochs"], "batch_size": small["batch_size"], "device": "cpu"}
        request = FitRequest(
            dataset_dir=root,
            out_dir=out,
            train=TrainConfig(**settings | (train or {})),
            policy="rule",
            overrides=small["overrides"],
        )
        return replace(request, **changes)

    return make


@pytest.fixture
def copied(fitted, tmp_path):
    """A copy of the fitted run that a test may go on with."""
    return shutil.copytree(fitted.run_dir, tmp_path / "run")


def ask_closed(root, out, **changes):
    """Return a request to fit a folder of scenes in closed form."""
    request = FitRequest(
        dataset_dir=root,
        out_dir=out,
        train=TrainConfig(fit="closed", device="cpu"),
        policy="rule",
    )
    return replace(request, **changes)


def rest(job, progress):
    """Train nothing: what is to be judged is there already."""


@pytest.fixture
def run(closed_run, scenes, tmp_path):
    """The path of a run in closed form, beside which a network with random weights was trained."""
    path = shutil.copytree(closed_run, tmp_path / "run")
    config = RunFolder(path).read_config()
    experts = list_specs(("broadband", "low"), SPECTRO)
    small = {"stem_channels": 4, "expert_channels": 4, "k_max": 1}
    model = ModelConfig(num_classes=4, experts=experts, **small)
    trained = RunConfig(classes=config.classes, spectro=SPECTRO, model=model, train=TrainConfig())
    own = RunFolder(path / RunFile.BY_GRADIENT)
    own.write_record(RunFile.CONFIG, trained)
    torch.manual_seed(0)
    weights = split_weights(MoE(model, SPECTRO))
    own.save_checkpoint("epoch-1", weights, {"epoch": 1}, which=("best", "last"))
    row = {"epoch": 1, "val_loss": 1.0, "val_accuracy": 0.5, "train_accuracy": 0.5, "kept": True}
    own.file(RunFile.HISTORY).write_text(json.dumps(row | {"train_mixture": 1.0}) + "\n")
    return path


@pytest.fixture
def add(run, scenes, monkeypatch):
    """The function that judges the network beside the run, at a cost that does not change."""
    monkeypatch.setattr(network, "measure_ms", lambda expert, **_: 8.0)
    folder, dataset = RunFolder(run), load_dataset(scenes)
    request = ask_closed(scenes, run, engine=rest)
    return lambda: add_network(folder, folder.read_config(), dataset, request)


@pytest.fixture
def knowing(monkeypatch):
    """Let the network know most of what is asked in validation, clean and noisy."""

    def answer(expert, dataset, examples, progress):
        clips = [clip for _, clip in load_clips(dataset, examples)]
        counts = [len(cut_training(clip, SPECTRO.segment_s)) for clip in clips]
        truth = np.eye(4)[dataset.targets(examples)].repeat(counts, axis=0)
        rng = np.random.default_rng(1)
        return np.stack([6.0 * truth + rng.normal(size=truth.shape) for _ in range(2)])

    monkeypatch.setattr(network, "answer_copies", answer)


@pytest.fixture
def hearing(monkeypatch, knowing):
    """Let the network's stem know it as well, at the cost of the one in closed form."""
    look = trained_stem.look_at_copies

    def look_at_copies(dataset, examples, *rest, name, **more):
        if name == "stem of the network":
            return network.answer_copies(None, dataset, examples, None)
        return look(dataset, examples, *rest, name=name, **more)

    monkeypatch.setattr(trained_stem, "look_at_copies", look_at_copies)
    monkeypatch.setattr(trained_stem, "compare_ms", lambda *_: 1.0)
    monkeypatch.setattr(network, "measure_glance_ms", lambda *_: 0.75)


@pytest.fixture
def one_window_at_most(monkeypatch):
    """Of a network that is offered, only the variant that hears one window is tried."""
    every = closed.list_backbones

    def list_few(*asked):
        return [one for one in every(*asked) if one.windows == 1]

    monkeypatch.setattr(closed, "list_backbones", list_few)


@pytest.fixture
def parted(scenes, tmp_path):
    """Return a folder with the scenes of some sources, and one with those of the others."""
    return split_sources(scenes, tmp_path)


def split_sources(scenes, tmp_path):
    header, *rows = (scenes / "metadata.csv").read_text().splitlines()
    roots = tmp_path / "first", tmp_path / "later"
    for root in roots:
        root.mkdir()
        own = [row for row in rows if (int(row.split(",")[3]) in LATER) == (root == roots[1])]
        (root / "metadata.csv").write_text("\n".join([header, *own]) + "\n")
        for row in own:
            name = row.split(",")[0]
            shutil.copyfile(scenes / name, root / name)
    return roots


@pytest.fixture
def young(parted, closed_run, tmp_path, few_families, undrawn):
    """A run that knows the first of the scenes alone; these recordings are gone."""
    first, _ = parted
    experts = RunFolder(closed_run).read_config().model.experts
    wanted = PolicyOverrides(experts=tuple(spec.family for spec in experts))
    fit_run(ask_closed(first, tmp_path / "young", overrides=wanted))
    shutil.rmtree(first)
    return tmp_path / "young"


class Renames:
    """The files that were put in place, by name; from the one told on none is."""

    def __init__(self):
        self.names, self.last, self.original = [], None, Path.replace

    def stop_at(self, count):
        self.names.clear()
        self.last = count

    def replace(self, path, target):
        if len(self.names) == self.last:
            raise KeyboardInterrupt
        self.names.append(Path(target).name)
        return self.original(path, target)


@pytest.fixture
def renames(monkeypatch):
    seen = Renames()
    monkeypatch.setattr(Path, "replace", lambda self, target: seen.replace(self, target))
    return seen


def tensors_of(run):
    folder = RunFolder(run)
    names = folder.read_config().model.expert_names
    return {part: folder.load_tensors(part) for part in answering_parts(names)}


def sound():
    return (0.1 * np.random.default_rng(0).standard_normal(3000)).astype(np.float32)


def listen(monkeypatch):
    """Return the names of those that measure features from now on."""
    heard = []
    ear, stem = KernelsEar.measure, StemEar.measure
    monkeypatch.setattr(
        KernelsEar, "measure", lambda self, *a: heard.append(self.spec.name) or ear(self, *a)
    )
    monkeypatch.setattr(StemEar, "measure", lambda self, *a: heard.append("stem") or stem(self, *a))
    return heard
