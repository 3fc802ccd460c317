"""Training on Ray gives the weights of the plain loop; a job travels as plain values."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from xmoe.artifacts import RunFolder, write_bytes, write_json
from xmoe.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.errors import ConfigError, XmoeError
from xmoe.jobs import train as jobs
from xmoe.jobs.train import dict_to_job, follow_history, job_to_dict, train_with_ray
from xmoe.predict import Predictor
from xmoe.training.session import HISTORY, TrainingJob, read_history, train_here

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EPOCHS = 3
CPUS = 2


def write_store(path, config, count):
    """Write a store of noise with one loud bin per class."""
    rng = np.random.default_rng(count)
    frames = config.spectro.num_frames
    values = rng.normal(-4.0, 0.3, (count, frames, config.spectro.num_bins))
    for index in range(count):
        values[index, :, 3 + 8 * (index % 2)] += 2.0
    np.save(path.with_suffix(".npy"), values.reshape(count * frames, -1).astype(np.float16))
    index = {
        "clip_ids": [f"{i}.wav" for i in range(count)],
        "offsets": [frames * i for i in range(count + 1)],
        "targets": [i % 2 for i in range(count)],
        "spectro": config.spectro.model_dump(mode="json"),
    }
    write_json(path.with_suffix(".json"), index)
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of three epochs on sixteen clips."""
    config = RunConfig(
        classes=("low", "high"),
        spectro=SpectroConfig(
            sample_rate_hz=8000,
            fmax_hz=4000.0,
            n_fft=256,
            win_length=200,
            hop_length=80,
            num_bins=16,
            segment_s=0.32,
        ),
        model=ModelConfig(
            experts=("broadband", "low", "high"),
            k_max=1,
            window_frames=2,
            stem_channels=8,
            expert_channels=4,
        ),
        train=TrainConfig(epochs=EPOCHS, batch_size=8, device="cpu"),
    )
    root = tmp_path_factory.mktemp("job")
    run = RunFolder(root / "run")
    run.write_record("run_config.json", config)
    train, val = (write_store(root / name, config, n) for name, n in (("train", 16), ("val", 6)))
    return TrainingJob(run.path, config, train, val)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One small Ray for every test here; one that runs already is used and left alone."""
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    if started:
        ray.shutdown()


@pytest.fixture
def as_many_threads():
    """As many threads here as the only worker of a job has there."""
    before = torch.get_num_threads()
    torch.set_num_threads(CPUS)
    yield
    torch.set_num_threads(before)


def elsewhere(job, run, **train):
    """Return the job with another run folder and other settings of training."""
    config = job.config.model_copy(update={"train": job.config.train.model_copy(update=train)})
    RunFolder(run).write_record("run_config.json", config)
    return replace(job, run=run, config=config)


def test_job_survives_the_journey_as_plain_values(job):
    values = json.loads(json.dumps(job_to_dict(job)))
    assert dict_to_job(values) == job


def test_relative_paths_are_made_absolute_for_other_processes(job, monkeypatch):
    monkeypatch.chdir(job.run.parent)
    relative = replace(job, run=job.run.relative_to(job.run.parent))
    assert dict_to_job(job_to_dict(relative)).run == job.run.resolve()


def row(epoch):
    figures = {"train_loss": 1.0, "train_accuracy": 0.5, "train_mean_k": 1.0, "seconds": 0.0}
    return {"epoch": epoch, "epochs": 3, "expert_load": {"low": 1.0}, **figures}


def write_rows(folder, count):
    lines = "".join(json.dumps(row(epoch)) + "\n" for epoch in range(1, count + 1))
    write_bytes(folder.file(HISTORY), lines.encode())


def test_rows_that_workers_write_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    folder, calls = RunFolder(tmp_path), []
    with follow_history(folder, lambda *call: calls.append(call)):
        for count in (1, 2):
            write_rows(folder, count)
            until = time.monotonic() + 20
            while len(calls) < count and time.monotonic() < until:
                time.sleep(0.01)
        write_rows(folder, 3)
    assert [call[:3] for call in calls] == [("train", epoch, 3) for epoch in (1, 2, 3)]
    assert calls[0][3] == "loss 1.000, accuracy 50.0%, mean K 1.00, low leads 100%"


def test_nothing_is_shown_of_a_run_without_a_history(tmp_path):
    calls = []
    with follow_history(RunFolder(tmp_path), lambda *call: calls.append(call)):
        pass
    assert calls == []


def test_following_ends_with_an_error_too(tmp_path):
    calls = []
    folder = RunFolder(tmp_path)
    write_rows(folder, 2)
    with (
        pytest.raises(ValueError, match="inside"),
        follow_history(folder, lambda *call: calls.append(call)),
    ):
        raise ValueError("inside")
    assert [call[1] for call in calls] == [2]


def test_one_worker_gives_the_bits_of_the_plain_loop(
    job, local_ray, as_many_threads, tmp_path, assert_same_weights
):
    here, there = elsewhere(job, tmp_path / "here"), elsewhere(job, tmp_path / "there")
    calls = []
    train_here(here)
    train_with_ray(there, lambda *call: calls.append(call))
    assert_same_weights(here.run, there.run)
    assert [row["epoch"] for row in read_history(RunFolder(there.run))] == [1, 2, 3]
    assert calls[-1][:3] == ("train", EPOCHS, EPOCHS)


@pytest.fixture
def assert_same_weights():
    """The function that asserts that two runs hold the same bits in their checkpoints."""

    def check(one, other):
        for which in ("best", "last"):
            folders = [RunFolder(run).checkpoint_folder(which) for run in (one, other)]
            names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
            assert names[0] == names[1]
            for name in names[0]:
                if name.endswith(".safetensors"):
                    assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()

    return check


@pytest.mark.slow
def test_worker_goes_on_from_the_last_checkpoint(
    job, local_ray, as_many_threads, tmp_path, assert_same_weights
):
    whole, stopped = elsewhere(job, tmp_path / "whole"), elsewhere(job, tmp_path / "stopped")
    train_here(whole)

    def interrupt(stage, done, total=None, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_here(stopped, interrupt)
    train_with_ray(stopped)
    assert_same_weights(whole.run, stopped.run)


@pytest.mark.slow
def test_two_workers_train_one_model(job, local_ray, tmp_path):
    shared = elsewhere(job, tmp_path / "shared", num_workers=2)
    train_with_ray(shared)
    rows = read_history(RunFolder(shared.run))
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    answer = Predictor.load(shared.run).predict(np.ones(2560, np.float32) * 0.1, 8000)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_failing_workers_are_an_error_that_says_what_to_do(job, local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_FAILURES", 0)
    broken = replace(elsewhere(job, tmp_path / "broken"), train_store=tmp_path / "nothing")
    with pytest.raises(XmoeError, match="failed on Ray") as raised:
        train_with_ray(broken)
    assert "--resume" in (raised.value.mend or "")


@pytest.mark.parametrize(("cpus", "workers", "share"), [(2, 1, 2), (2, 2, 1), (9, 2, 4)])
def test_workers_share_the_processors(cpus, workers, share):
    assert jobs.share_of_cpus(cpus, workers) == share


def test_more_workers_than_processors_are_refused():
    with pytest.raises(ConfigError, match="3 workers, but Ray has 2") as raised:
        jobs.share_of_cpus(2, 3)
    assert raised.value.where == "--workers"
