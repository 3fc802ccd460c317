"""Training on Ray gives the weights of the plain loop; a job travels as plain values."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.base.files import write_bytes
from xmoe.jobs import train as jobs
from xmoe.jobs.train import dict_to_job, follow_history, job_to_dict, train_with_ray
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.session import read_history, train_here

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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
    write_bytes(folder.file(RunFile.HISTORY), lines.encode())


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
    job, elsewhere, local_ray, as_many_threads, tmp_path, assert_same_weights
):
    here, there = elsewhere(job, tmp_path / "here"), elsewhere(job, tmp_path / "there")
    calls = []
    train_here(here)
    train_with_ray(there, lambda *call: calls.append(call))
    assert_same_weights(here.run, there.run)
    assert [row["epoch"] for row in read_history(RunFolder(there.run))] == [1, 2, 3]
    assert calls[-1][:3] == ("train", 3, 3)


@pytest.mark.slow
def test_worker_goes_on_from_the_last_checkpoint(
    job, elsewhere, local_ray, as_many_threads, tmp_path, assert_same_weights
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
def test_two_workers_train_one_model(job, elsewhere, local_ray, tmp_path):
    shared = elsewhere(job, tmp_path / "shared", num_workers=2)
    train_with_ray(shared)
    rows = read_history(RunFolder(shared.run))
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    answer = Predictor.load(shared.run).predict(np.ones(2560, np.float32) * 0.1, 8000)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_failing_workers_are_an_error_that_says_what_to_do(
    job, elsewhere, local_ray, tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs, "MAX_FAILURES", 0)
    broken = replace(elsewhere(job, tmp_path / "broken"), stores=tmp_path / "nothing")
    with pytest.raises(XmoeError, match="failed on Ray") as raised:
        train_with_ray(broken)
    assert "--resume" in (raised.value.mend or "")


@pytest.mark.slow
def test_torn_record_of_ray_stops_nothing(job, elsewhere, local_ray, tmp_path):
    begun = elsewhere(job, tmp_path / "begun")
    train_with_ray(begun)
    record = job.stores / "ray" / "train"
    (record / "checkpoint_manager_snapshot.json").write_text('{"torn')
    train_with_ray(begun)
    assert len(read_history(RunFolder(begun.run))) == 3


@pytest.mark.parametrize(
    ("cpus", "workers", "share"),
    [
        ([2], (1, 1), 2),
        ([2], (2, 2), 1),
        ([9], (2, 2), 4),
        ([2, 2, 2], (1, 1), 2),
        ([8, 2], (3, 3), 2),
        ([0, 3, 3], (2, 2), 3),
        ([2], (1, 4), 1),
        ([8], (1, 4), 2),
    ],
)
def test_workers_share_the_processors_of_their_nodes(cpus, workers, share):
    assert jobs.share_of_cpus(cpus, *workers) == share


def test_more_workers_than_processors_are_refused():
    with pytest.raises(ConfigError, match="3 workers, but Ray has 2") as raised:
        jobs.share_of_cpus([1, 1], 3, 4)
    assert raised.value.where == "--workers"


def test_batches_too_small_for_the_workers_are_refused(job, elsewhere, tmp_path):
    many = elsewhere(job, tmp_path / "many", num_workers=(1, 5))
    with pytest.raises(ConfigError, match="8 clips are too small for 5 workers") as raised:
        train_with_ray(many)
    assert "at least 10" in raised.value.mend
