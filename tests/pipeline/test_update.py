"""Clips that are added, as if they had always been there; and which an update leaves out."""

import json
import os
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from tests.fixtures.closed import CLASSES, OF_A_SOURCE
from tests.pipeline.conftest import LATER, RATE_HZ, listen, sound, tensors_of
from xmoe.audio.dataset import Dataset, load_more
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.base.task import task_of
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import add_expert
from xmoe.pipeline.update import update_run
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import ROUTER, RunFile, RunFolder
from xmoe.training.promises import read_table


@pytest.fixture
def run(closed_run, tmp_path):
    return shutil.copytree(closed_run, tmp_path / "run")


def test_an_update_leaves_the_runs_own_test_clips_out_wherever_they_lie(young, parted, scenes):
    """Trained on them, the run would be judged by clips that it knows."""
    _, later = parted
    rows = pq.read_table(young / RunFile.CLIPS, columns=["filepath", "split"]).to_pylist()
    tested = next(row["filepath"] for row in rows if row["split"] == "test")
    shutil.copy(scenes / tested, later / "copied.wav")
    (later / "noise.wav").write_bytes(b"no sound")
    more = load_more(later, None, "single_label")
    odd = [replace(more.examples[0], filepath=name) for name in ("copied.wav", "noise.wav")]
    grown = update_run(young, replace(more, examples=(*more.examples, *odd)))
    assert (grown.added, grown.tested) == (OF_A_SOURCE * len(LATER), 1)
    assert [one.filepath for one in grown.bad] == ["noise.wav"]
    with pytest.raises(DatasetError, match="1 are of the run's own test split"):
        update_run(young, replace(more, examples=tuple(odd)))


def test_clips_that_are_there_twice_or_known_otherwise_are_refused(young, parted, scenes):
    _, later = parted
    before = {path.name: path.read_bytes() for path in young.iterdir() if path.is_file()}
    more = load_more(later, None, "single_label")
    shutil.copy(later / more.examples[0].filepath, later / "twin.wav")
    twin = replace(more.examples[0], filepath="twin.wav")
    with pytest.raises(DatasetError, match=r"twin.wav are the same clip"):
        update_run(young, replace(more, examples=(*more.examples, twin)))
    rows = pq.read_table(young / RunFile.KNOWN, columns=["filepath", "labels"]).to_pylist()
    shutil.copy(scenes / rows[0]["filepath"], later / "known.wav")
    other = next(label for label in CLASSES if label not in rows[0]["labels"])
    known = replace(more.examples[0], filepath="known.wav", labels=(other,))
    with pytest.raises(DatasetError, match=r"known.wav is known with the label"):
        update_run(young, replace(more, examples=(*more.examples, known)))
    after = {path.name: path.read_bytes() for path in young.iterdir() if path.is_file()}
    assert after == before


def test_one_command_at_a_time_changes_a_run(run):
    old, new = run / ".policy.json.7.tmp", run / "checkpoints" / ".best.json.8.tmp"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, 0))
    with RunFolder(run).changing():
        assert not old.exists()  # of a command that was killed long ago
        assert new.exists()
        for change in (
            lambda: update_run(run, Dataset(run, (), CLASSES, "single_label")),
            lambda: recalibrate(run),
            lambda: add_expert(run, RunFolder(run).read_config().model.experts[0], []),
        ):
            with pytest.raises(ConfigError, match="another command is changing this run"):
                change()
    assert recalibrate(run).routing.costs_ms


def test_what_an_update_cannot_do_it_refuses(young, parted):
    _, later = parted
    more = load_more(later, None, "single_label")
    examples = tuple(replace(one, labels=("owl",)) for one in more.examples)
    with pytest.raises(DatasetError, match="does not know the labels owl"):
        update_run(young, replace(more, examples=examples, classes=("owl",)))
    (later / "000.wav").write_bytes((later / "028.wav").read_bytes())
    renamed = tuple(replace(one, filepath="000.wav") for one in more.examples[:1])
    with pytest.raises(DatasetError, match=r"names of known clips and other bytes: 000.wav"):
        update_run(young, replace(more, examples=renamed))
    shutil.rmtree(young / RunFile.FEATURES)
    with pytest.raises(ConfigError, match="keeps no features"):
        update_run(young, more)


def test_clips_that_are_added_give_the_heads_of_training_on_all_at_once(
    young, parted, closed_run, monkeypatch
):
    _, later = parted
    heard = listen(monkeypatch)
    more = load_more(later, None, "single_label")
    before = tensors_of(young)
    grown = update_run(young, more)
    assert (grown.clips, grown.added, grown.passed) == (48, OF_A_SOURCE * len(LATER), 0)
    names = RunFolder(young).read_config().model.expert_names
    assert set(heard) == {"stem", *names}
    again, at_once = tensors_of(young), tensors_of(closed_run)
    shared = (again.keys() & at_once.keys()) - {ROUTER}
    assert len(shared) >= 2
    for part in shared:
        for name in ("weight", "bias", "head.weight", "head.bias"):
            if name in again[part]:
                far = (again[part][name] - at_once[part][name]).abs().max()
                assert far <= 1e-6 * at_once[part][name].abs().max().clamp_min(1.0)
                assert not torch.equal(again[part][name], before[part][name])
    record = json.loads((young / RunFile.CLOSED).read_text())
    assert record["clips"] == 48
    assert Predictor.load(young).predict(sound(), RATE_HZ).label in CLASSES
    with pytest.raises(DatasetError, match="nothing is new"):
        update_run(young, more)


def read_held(run):
    """Return the held-out answers behind a run's mixture."""
    folder = RunFolder(run)
    model = folder.read_config().model
    path = folder.mixture_file(RunFile.HELD_OUT)
    return read_table(path, model.expert_names, task_of(model.task))


def test_wherever_an_update_stops_the_run_answers_and_the_next_one_ends_it(
    young, parted, tmp_path, renames
):
    more, written = load_more(parted[1], None, "single_label"), renames.names
    written.clear()
    whole = shutil.copytree(young, tmp_path / "whole")
    update_run(whole, more)
    named, last = written.index("best.json"), written.index(RunFile.KNOWN)
    tables = {len(read_held(run).clip_ids): run for run in (young, whole)}
    assert len(tables) == 2
    for moment in (named, named + 1, last):
        run = shutil.copytree(young, tmp_path / str(moment))
        renames.stop_at(moment)
        with pytest.raises(KeyboardInterrupt):
            update_run(run, more)
        renames.stop_at(None)
        assert Predictor.load(run).predict(sound(), RATE_HZ).label in CLASSES
        # Heads and their held-out answers are of one mixture, the former or the new one.
        mine = tables[len(read_held(run).clip_ids)]
        assert mine == (young if moment == named else whole)
        for part, tensors in tensors_of(mine).items():
            own = tensors_of(run)[part]
            assert all(torch.allclose(own[name], tensors[name]) for name in tensors), part
        assert update_run(run, more).clips == 48
        for part, tensors in tensors_of(whole).items():
            own = tensors_of(run)[part]
            assert all(torch.allclose(own[name], tensors[name]) for name in tensors), part
