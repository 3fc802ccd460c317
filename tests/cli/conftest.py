"""A classifier that only notes how it was called: commands are tested without training."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.fixtures.closed import (
    backbone_run,
    closed_run,
    few_families,
    loud_scenes,
    scenes,
    tiny_card,
)
from xmoe.base.errors import AudioError
from xmoe.cli import main

__all__ = ["backbone_run", "closed_run", "few_families", "loud_scenes", "scenes", "tiny_card"]

METRICS = {"accuracy": 0.9, "accuracy_ci": [0.8, 0.95], "majority_accuracy": 0.2, "mean_k": 1.5}
RECORD = {
    "answer": "whale",
    "probabilities": {"whale": 0.75, "ship": 0.25},
    "k": 1,
    "files": ["gradcam.png"],
    "sentences": {"label": "Low calls.", "experts": "Asked: low.", "k": "K = 1."},
    "experts": [
        {"name": "low", "weight": 1.0, "band_hz": [0.0, 500.0], "spans_s": [[0.25, 0.5]]},
    ],
}
ANSWER = {
    "label": "whale",
    "labels": ["whale"],
    "probability": 0.75,
    "uncertain": False,
    "k": 1.0,
    "experts": [{"name": "low", "weight": 1.0, "share": 1.0}],
}


class FakeClassifier:
    """Stands in for ``MoEAudioClassifier``; ``calls`` lists (what, arguments)."""

    calls: list[tuple[str, dict]]
    survey: dict

    def __init__(self, **settings):
        self.calls.append(("init", settings))

    @classmethod
    def load(cls, run_dir, **settings):
        cls.calls.append(("load", {"run_dir": run_dir, **settings}))
        return cls()

    def fit(self, dataset_dir, metadata_csv=None, **settings):
        self.calls.append(("fit", {"dataset_dir": dataset_dir, **settings}))
        out = Path(settings["out_dir"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.json").write_text(json.dumps(METRICS))
        settings["progress"]("train", 1, 1, "loss 0.10")
        return self

    def evaluate(self, dataset_dir, metadata_csv=None, **settings):
        self.calls.append(("evaluate", {"dataset_dir": dataset_dir, **settings}))
        return METRICS | ({"explanations": self.survey} if settings.get("explained") else {})

    def measure_robustness(self, dataset_dir, metadata_csv=None, **settings):
        self.calls.append(("robustness", {"dataset_dir": dataset_dir, **settings}))
        point = {"level": 10.0, "accuracy": 0.75}
        nothing = {"unit": "", "sense": "", "points": []}
        harms = [
            {"title": "White noise", "unit": "dB SNR", "sense": "", "points": [point]},
            {**nothing, "title": "Vorbis codec", "absent": "too fast for it"},
        ]
        return {"num_clips": 40, "clean": {"accuracy": 0.9}, "harms": harms}

    def predict(self, path):
        if not Path(path).exists():
            raise AudioError("missing", "there is no such file", where=str(path), mend="check it")
        return SimpleNamespace(model_dump=lambda **_: ANSWER)

    def explain(self, path, *, save_dir, method="gradcam"):
        self.calls.append(("explain", {"path": path, "save_dir": save_dir, "method": method}))
        return RECORD


@pytest.fixture
def classifier(monkeypatch):
    """Put the fake in the place of the real classifier."""
    module = ModuleType("xmoe.pipeline.classifier")
    module.MoEAudioClassifier = FakeClassifier
    monkeypatch.setitem(sys.modules, "xmoe.pipeline.classifier", module)
    FakeClassifier.calls = []
    return FakeClassifier


@pytest.fixture
def requests(monkeypatch):
    """Put a fit that only notes its request, and writes figures, in the place of the real one."""
    from xmoe.pipeline import fit

    seen = []

    def note(request, *, progress):
        seen.append(request)
        request.out_dir.mkdir(parents=True, exist_ok=True)
        (request.out_dir / "metrics.json").write_text(json.dumps(METRICS))

    monkeypatch.setattr(fit, "fit_run", note)
    return seen


@pytest.fixture
def run_json(capsys):
    """Run a command with ``--json`` and return its exit code and its one JSON object."""

    def call(*args):
        with pytest.raises(SystemExit) as left:
            main([*map(str, args), "--json", "-q"])
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return left.value.code, json.loads(out)

    return call
