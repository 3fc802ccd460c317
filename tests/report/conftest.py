"""A run folder written by hand around a few real tones; its names try to break out of the page."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.audio.dataset import load_dataset
from xmoe.audio.quarantine import Quarantined, write_quarantine
from xmoe.base.config import RunConfig, TrainConfig
from xmoe.base.files import write_json
from xmoe.base.task import SingleLabel
from xmoe.metrics import compute_metrics
from xmoe.policy.policy import choose_policy
from xmoe.profile.assemble import profile_dataset
from xmoe.profile.profile import write_clip_table
from xmoe.report.records import RunRecords
from xmoe.run.folder import RunFolder

RATE_HZ = 8000
EVIL = "<script>alert(1)</script>"
CLASSES = (EVIL, 'quote"><img src=x onerror=alert(2)>')
CLIPS = 24


def write_tones(root: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["filepath,split,label"]
    for index in range(CLIPS):
        time_s = np.arange(RATE_HZ // 4) / RATE_HZ
        tone = 0.2 * np.sin(2 * np.pi * (400 + 900 * (index % 2)) * time_s)
        noise = (0.01 + 0.004 * index) * rng.standard_normal(len(time_s))
        name = f"{index:02d}<b>&.wav"
        sf.write(root / name, (tone + noise).astype(np.float32), RATE_HZ, subtype="PCM_16")
        label = CLASSES[index % 2].replace('"', '""')
        rows.append(f'{name},{("train", "val", "test")[index % 3]},"{label}"')
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def write_records(folder: RunFolder, root: Path) -> None:
    """Write what ``train`` leaves behind, without a training."""
    dataset = load_dataset(root)
    result = profile_dataset(dataset)
    policy = choose_policy(result.profile, dataset, method="rule")
    config = RunConfig(
        classes=dataset.classes,
        spectro=policy.spectro,
        model=policy.as_model_config(task=dataset.task, num_classes=2),
        train=TrainConfig(epochs=3),
    )
    write_json(folder.file("profile.json"), result.profile)
    write_clip_table(folder.file("clips.parquet"), result.stats)
    bad = Quarantined(f"{EVIL}.wav", "empty", "the file is empty", "leave it out")
    write_quarantine(folder.file("quarantine.csv"), [bad])
    folder.write_record("policy.json", policy)
    folder.write_record("run_config.json", config)
    warnings = [f"something odd in {EVIL}"]
    folder.write_record("dataset.json", {"root": str(root), "warnings": warnings, "notes": [EVIL]})
    rows = [
        {"epoch": n, "val_loss": 1 / n, "val_accuracy": 0.5, "train_loss": 1.0, "kept": True}
        for n in (1, 2, 3)
    ]
    folder.file("history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.file("architecture.txt").write_text(f"xmoe {EVIL}\n")
    write_outcome(folder, config, [example.clip_id for example in dataset.split("test")])


def write_outcome(folder: RunFolder, config: RunConfig, clip_ids: list[str]) -> None:
    targets = np.array([index % 2 for index in range(len(clip_ids))])
    sure = np.linspace(0.6, 0.95, len(clip_ids))
    right = np.where(targets == 0, sure, 1 - sure)
    right[0] = 0.1
    probabilities = np.stack([right, 1 - right], 1)
    metrics = compute_metrics(probabilities, targets, task=SingleLabel(), num_bootstrap=50)
    experts = config.model.expert_names
    rate = dict.fromkeys(experts, 0.25)
    macs = {"stem": 3.5, "mean_answer": 4.0, **dict.fromkeys(experts, 2.0)}
    metrics |= {"classes": config.classes, "mean_k": 0.5, "mmacs": macs}
    metrics |= {"epochs": 3, "train_minutes": 0.5, "baseline_accuracy": 0.7}
    metrics["accuracy_at_fixed_k"] = {"0": 0.5, "1": 0.75, "2": 0.875}
    by_class = {name: {"mean_k": 0.5, "selection_rate": rate} for name in config.classes}
    usage = {"selection_rate": rate, "mean_weight": rate, "by_class": by_class, "mean_k": 0.5}
    usage |= {"k_histogram": {"0": 4, "1": 4}, "load_balance": 1.0}
    folder.write_record("metrics.json", metrics)
    folder.write_record("expert_usage.json", usage)
    traces = [
        {
            "clip_id": clip_id,
            "labels": [config.classes[target]],
            "answer": config.classes[int(p.argmax())],
            "probability": float(p.max()),
            "uncertain": False,
            "k": float(target),
            "experts": [{"name": experts[0], "weight": 1.0}] if target else [],
        }
        for clip_id, target, p in zip(clip_ids, targets, probabilities, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(traces), folder.file("traces.parquet"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder; it is not to be changed."""
    base = tmp_path_factory.mktemp("report")
    (base / "set").mkdir()
    folder = RunFolder(base / "run")
    folder.path.mkdir()
    write_records(folder, write_tones(base / "set"))
    return folder.path


@pytest.fixture
def records(run: Path) -> RunRecords:
    """Return the records of the run."""
    return RunRecords(run)
