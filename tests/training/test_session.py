"""A run stopped at any write is loadable and goes on to the bits of an undisturbed one."""

import json
from dataclasses import replace

import pytest
import torch

from xmoe.base import files
from xmoe.base.errors import ConfigError, XmoeError
from xmoe.predict.predictor import Predictor
from xmoe.run import folder as run_folder
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training import session
from xmoe.training.session import (
    describe_row,
    make_trainer,
    read_history,
    restore,
    run_epochs,
    train_here,
)

# The pointers at the start, and what the third epoch writes; the others are slow tests.
SHOWN_WRITES = {2, 3, 14, 15, 16}


class Killed(BaseException):
    """Stands for the end of the process."""


def load_all(folder, which):
    """Return every tensor and the state that a pointer names, hashes checked."""
    parts = [path.stem for path in folder.checkpoint_folder(which).glob("*.safetensors")]
    return {part: folder.load_tensors(part, which) for part in parts}, folder.load_state(which)


@pytest.fixture(scope="module")
def undisturbed(config, store_paths, tmp_path_factory):
    """The run folder of four epochs that nothing stopped."""
    run = tmp_path_factory.mktemp("undisturbed")
    job = session.TrainingJob(run, config, store_paths["train"].parent)
    RunFolder(run).write_record("run_config.json", config)
    train_here(job)
    return RunFolder(run)


@pytest.fixture
def assert_same_run(undisturbed, assert_same):
    """The function that asserts that a run ended as the undisturbed one did."""

    def check(folder):
        for which in ("best", "last"):
            tensors, state = load_all(folder, which)
            expected, expected_state = load_all(undisturbed, which)
            assert_same(tensors, expected)
            assert state == expected_state
        rows, expected_rows = read_history(folder), read_history(undisturbed)
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
        for row, expected_row in zip(rows, expected_rows, strict=True):
            assert row | {"seconds": 0} == expected_row | {"seconds": 0}

    return check


def test_run_leaves_checkpoints_history_and_events(undisturbed):
    rows = read_history(undisturbed)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [4, 8, 12, 16]
    assert rows[0]["kept"]
    assert {"train_loss", "val_loss", "val_loss_se", "val_accuracy"} <= set(rows[3])
    _, state = load_all(undisturbed, "last")
    assert (state["epoch"], state["epochs"], state["step"]) == (4, 4, 16)
    assert state["best_loss"] == min(row["val_loss"] for row in rows)
    assert len(list(undisturbed.file("tensorboard").iterdir())) == 1


def test_best_is_the_last_epoch_that_was_kept(undisturbed):
    kept = [row["epoch"] for row in read_history(undisturbed) if row["kept"]]
    _, state = load_all(undisturbed, "best")
    assert state["epoch"] == kept[-1]


def test_only_named_checkpoints_are_left(undisturbed):
    named = {undisturbed.checkpoint_folder(which).name for which in ("best", "last")}
    folders = {path.name for path in undisturbed.checkpoints.iterdir() if path.is_dir()}
    assert folders == named


@pytest.mark.parametrize(
    ("losses", "kept", "best"),
    [
        ([1.0, 0.8, 0.6, 0.4], [True, True, True, True], 4),
        ([0.5, 0.58, 0.7, 0.9], [True, True, False, False], 2),
        ([0.5, 0.9, 0.4, 0.45], [True, False, True, True], 4),
        ([0.5, 0.7, 0.61, 0.62], [True, False, False, False], 1),
    ],
)
def test_best_is_not_clearly_worse_than_the_lowest_loss(
    make_job, tmp_path, monkeypatch, losses, kept, best
):
    trainer = make_trainer(make_job(tmp_path))
    figures = iter(losses)
    monkeypatch.setattr(
        trainer,
        "validate",
        lambda: {"val_loss": next(figures), "val_loss_se": 0.1, "val_accuracy": 0.5},
    )
    run_epochs(trainer, make_job(tmp_path))
    folder = RunFolder(tmp_path)
    assert [row["kept"] for row in read_history(folder)] == kept
    assert folder.load_state("best")["epoch"] == best
    assert folder.load_state("last")["epoch"] == 4
    assert folder.load_state("last")["best_loss"] == min(losses)


def test_run_is_loadable_before_its_first_step(make_job, config, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_record("run_config.json", config)
    trainer = make_trainer(make_job(tmp_path))

    def stop():
        raise Killed

    monkeypatch.setattr(trainer, "train_epoch", stop)
    with pytest.raises(Killed):
        run_epochs(trainer, make_job(tmp_path))
    assert folder.load_state("last")["epoch"] == 0
    assert Predictor.load(tmp_path).config.classes == ("low", "middle", "top")
    assert read_history(folder) == []


def test_loss_that_is_not_finite_says_what_to_do(make_job, config, tmp_path, monkeypatch):
    RunFolder(tmp_path).write_record("run_config.json", config)
    trainer = make_trainer(make_job(tmp_path))

    def diverge():
        raise FloatingPointError("the loss is nan in epoch 1")

    monkeypatch.setattr(trainer, "train_epoch", diverge)
    with pytest.raises(XmoeError, match="the loss is nan in epoch 1") as raised:
        run_epochs(trainer, make_job(tmp_path))
    assert (raised.value.where, bool(raised.value.mend)) == (str(tmp_path), True)


def test_long_runs_write_about_thirty_checkpoints(make_job, change, tmp_path, monkeypatch):
    job = make_job(tmp_path, change("train", epochs=65))
    trainer = make_trainer(job)
    saved = []

    def train_epoch():
        trainer.epoch += 1
        return session.EpochReport(
            epoch=trainer.epoch,
            epochs=65,
            step=0,
            seconds=0.0,
            figures={"train_loss": 1.0, "train_accuracy": 0.0, "train_mean_k": 0.0},
            expert_load={"low": 1.0},
        )

    figures = {"val_loss": 1.0, "val_loss_se": 0.0, "val_accuracy": 0.0}
    monkeypatch.setattr(trainer, "train_epoch", train_epoch)
    monkeypatch.setattr(trainer, "validate", lambda: figures)
    monkeypatch.setattr(
        RunFolder, "save_checkpoint", lambda self, name, *_, **__: saved.append(name)
    )
    reports = []
    run_epochs(trainer, job, on_epoch=lambda report: reports.append(report.epoch))
    assert reports == [*range(2, 65, 2), 65]
    assert saved == ["epoch-00000", *(f"epoch-{epoch:05d}" for epoch in reports)]
    assert len(read_history(RunFolder(tmp_path))) == 65


def test_worker_that_does_not_write_leaves_nothing(make_job, tmp_path):
    job = make_job(tmp_path / "run")
    calls = []
    run_epochs(
        make_trainer(job), job, writes=False, progress=lambda stage, *rest: calls.append(stage)
    )
    assert calls == ["train"] * 4
    assert not (tmp_path / "run").exists()


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_bits(
    make_job, config, tmp_path, assert_same_run
):
    folder = RunFolder(tmp_path)
    folder.write_record("run_config.json", config)

    def interrupt(stage, done, total=None, note=""):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_here(make_job(tmp_path), interrupt)
    assert folder.load_state("last")["epoch"] == 2
    assert [row["epoch"] for row in read_history(folder)] == [1, 2]
    assert Predictor.load(tmp_path, which="last").config == config
    train_here(make_job(tmp_path, resume=True))
    assert_same_run(folder)


@pytest.fixture
def stop_at_write(monkeypatch):
    """The function that lets a process die just before its n-th write of a file."""

    def arm(number):
        left = [number]

        def guard(write):
            def guarded(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                write(*args, **kwargs)

            return guarded

        write_bytes = guard(files.write_bytes)
        monkeypatch.setattr(files, "write_bytes", write_bytes)
        monkeypatch.setattr(session, "write_bytes", write_bytes)
        monkeypatch.setattr(run_folder, "_fill_checkpoint", guard(run_folder._fill_checkpoint))

    return arm


# The start and each of four epochs write a checkpoint, its pointers and the history.
@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[] if n in SHOWN_WRITES else [pytest.mark.slow]) for n in range(1, 20)],
)
def test_run_that_dies_at_a_write_loses_nothing(
    make_job, config, tmp_path, monkeypatch, assert_same_run, stop_at_write, number
):
    folder = RunFolder(tmp_path)
    folder.write_record("run_config.json", config)
    stop_at_write(number)
    with pytest.raises(Killed):
        train_here(make_job(tmp_path))
    monkeypatch.undo()
    for which in ("best", "last"):
        if folder.exists(which):
            load_all(folder, which)
    if folder.exists("last"):
        Predictor.load(tmp_path)
        epochs = [row["epoch"] for row in read_history(folder)]
        assert len(epochs) >= folder.load_state("last")["epoch"]
    train_here(make_job(tmp_path, resume=True))
    assert_same_run(folder)


def test_history_is_cut_where_training_goes_on(make_job, tmp_path, undisturbed):
    job = make_job(tmp_path)
    trainer = make_trainer(job)

    def interrupt(stage, done, total=None, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_epochs(trainer, job, progress=interrupt)
    folder = RunFolder(tmp_path)
    rows = undisturbed.file(RunFile.HISTORY).read_bytes()
    folder.file(RunFile.HISTORY).write_bytes(rows)
    again = make_trainer(replace(job, resume=True))
    with pytest.raises(KeyboardInterrupt):
        run_epochs(again, job, progress=interrupt)
    assert [row["epoch"] for row in read_history(folder)] == [1, 2]


def test_finished_run_that_resumes_changes_nothing(make_job, tmp_path, assert_same_run):
    train_here(make_job(tmp_path))
    calls = []
    train_here(make_job(tmp_path, resume=True), lambda *call: calls.append(call))
    assert calls == []
    assert_same_run(RunFolder(tmp_path))


def test_resume_without_a_checkpoint_begins_anew(make_job, tmp_path, assert_same_run):
    train_here(make_job(tmp_path, resume=True))
    assert_same_run(RunFolder(tmp_path))


def test_other_number_of_epochs_is_refused(make_job, change, undisturbed):
    longer = make_job(undisturbed.path, change("train", epochs=9), resume=True)
    with pytest.raises(ConfigError, match="4 epochs, not 9"):
        make_trainer(longer)


def test_restore_puts_the_last_checkpoint_back(make_job, tmp_path, undisturbed):
    trainer = make_trainer(make_job(tmp_path))
    assert trainer.epoch == 0
    restore(trainer, undisturbed)
    assert (trainer.epoch, trainer.step) == (4, 16)
    expected = undisturbed.load_tensors("stem", "last")
    assert torch.equal(trainer.averaged.stem.head.weight, expected["head.weight"])


def test_progress_tells_epoch_loss_accuracy_k_and_the_leading_expert():
    row = {
        "train_loss": 1.2345,
        "train_accuracy": 0.5,
        "train_mean_k": 1.25,
        "expert_load": {"low": 0.25, "mid": 0.75},
    }
    assert describe_row(row) == "loss 1.234, accuracy 50.0%, mean K 1.25, mid leads 75%"
    validated = row | {"val_accuracy": 0.875}
    assert "accuracy 50.0%, validation 87.5%, mean K" in describe_row(validated)


def test_history_of_a_run_without_one_is_empty(tmp_path):
    assert read_history(RunFolder(tmp_path)) == []


def test_history_rows_are_one_json_object_a_line(undisturbed):
    lines = undisturbed.file(RunFile.HISTORY).read_text().splitlines()
    assert [json.loads(line)["epochs"] for line in lines] == [4, 4, 4, 4]
