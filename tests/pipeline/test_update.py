"""What an update does not train on, and what it refuses."""

import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.fixtures.closed import CLASSES, OF_A_SOURCE
from tests.pipeline.conftest import LATER
from xmoe.audio.dataset import Dataset, load_more
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import add_expert
from xmoe.pipeline.update import update_run
from xmoe.run.folder import RunFile, RunFolder


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
    with RunFolder(run).changing():
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
