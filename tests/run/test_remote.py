"""A run from an address: only what is asked for is fetched, and what cannot be read is named."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.fixtures.closed_runs import write_backbone_run
from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.base.errors import RunFolderError
from xmoe.predict.predictor import Predictor
from xmoe.run import remote
from xmoe.run.folder import MANIFEST, RunFile, RunFolder
from xmoe.run.remote import fetched, fetched_for_predicting, identify_run, open_run
from xmoe.storage.place import open_place


@pytest.fixture(autouse=True)
def copies_beside_the_test(tmp_path, monkeypatch):
    """Nobody removes the copies that ``open_run`` makes here but pytest."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def stored(tiny_run, bucket):
    """The address of a copy of the run in an object store."""
    for found in open_place(tiny_run).walk():
        (open_place(f"{bucket}/run") / found.name).write((tiny_run / found.name).read_bytes())
    return f"{bucket}/run"


def test_path_is_used_where_it_is(tiny_run):
    assert open_run(str(tiny_run), ["stem"]).path == tiny_run


def test_address_is_fetched_in_part(tiny_run):
    folder = open_run(f"file://{tiny_run}", ["expert-low"])
    assert folder.path != tiny_run
    names = {path.name for path in folder.checkpoint_folder().iterdir()}
    assert names == {"manifest.json", "expert-low.safetensors"}
    assert folder.load_tensors("expert-low")


def test_checkpoint_that_is_replaced_meanwhile_gives_way_to_the_new_one(
    tiny_run, tmp_path, monkeypatch
):
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    weights = {"stem": run.load_tensors("stem")}
    copy, replaced = remote._copy, []

    def replace_first(source, target, name):
        if name.endswith(MANIFEST) and not replaced:
            replaced.append(run.save_checkpoint("new", weights, {}, which=("best", "last")))
        return copy(source, target, name)

    monkeypatch.setattr(remote, "_copy", replace_first)
    folder = open_run(f"file://{run.path}", ["stem"])
    assert folder.checkpoint_folder().name == "new"
    assert folder.load_tensors("stem").keys() == weights["stem"].keys()


def test_store_gives_the_same_weights(tiny_run, stored):
    with fetched_for_predicting(stored) as folder, fetched_for_predicting(tiny_run) as here:
        assert here.path == tiny_run
        for part in ("stem", "router", "expert-low", "expert-broadband", "expert-transient"):
            theirs, ours = folder.load_tensors(part), here.load_tensors(part)
            assert all(theirs[name].equal(ours[name]) for name in ours)
    assert not folder.path.exists()
    assert here.path.exists()


def test_settings_that_a_checkpoint_brings_are_fetched_with_it(tiny_run, tmp_path):
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    before = run.read_config()
    weights = {"stem": run.load_tensors("stem")}
    after = before.model_copy(update={"classes": ("other", "names")})
    run.save_checkpoint("new", weights, {}, which=("best",), config=after)
    run.write_record(RunFile.CONFIG, before)
    assert open_run(f"file://{run.path}", ["stem"]).read_config() == after


def test_identity_is_of_the_bytes_and_not_of_the_place(tiny_run, stored, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    assert identify_run(tiny_run) == identify_run(other) == identify_run(stored)
    config = other / "run_config.json"
    config.write_text(config.read_text() + "\n")
    assert identify_run(other) != identify_run(tiny_run)


def test_copy_is_removed_after_an_error(tiny_run):
    with pytest.raises(ValueError, match="inside"), fetched(f"file://{tiny_run}", []) as folder:
        raise ValueError("inside")
    assert not folder.path.exists()


@pytest.mark.parametrize("address", ["file:///no/such/run", "nothing://bucket/run"])
def test_address_that_cannot_be_read(address):
    with pytest.raises(RunFolderError):
        open_run(address, ["stem"])


def test_store_without_a_run_names_the_file(bucket, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RunFolderError, match="no such file") as caught:
        open_run(f"{bucket}/none", [])
    assert caught.value.where == f"{bucket}/none/run_config.json"
    assert list(Path(tmp_path).iterdir()) == []


def test_refused_reading_names_the_file(stored, object_store):
    object_store.refuse = lambda method, path: path.endswith("best.json")
    with pytest.raises(RunFolderError, match="cannot be read") as caught:
        open_run(stored, [])
    assert caught.value.where == f"{stored}/checkpoints/best.json"


def test_pointer_that_names_no_checkpoint(stored):
    open_place(f"{stored}/checkpoints/best.json").write(b'{"folder": "../x"}')
    with pytest.raises(RunFolderError, match="names no checkpoint"):
        open_run(stored, [])


def test_part_that_is_not_in_the_run(tiny_run):
    with pytest.raises(RunFolderError, match="no such file"):
        open_run(f"file://{tiny_run}", ["expert-none"])


def test_identity_of_a_torn_run_is_an_error(tiny_run, tmp_path):
    torn = tmp_path / "torn"
    shutil.copytree(tiny_run, torn)
    (RunFolder(torn).checkpoint_folder() / MANIFEST).unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        identify_run(torn)


def test_files_of_a_network_are_fetched_with_the_expert_that_asks_it(tmp_path, bucket):
    run = write_backbone_run(tmp_path / "run")
    for found in open_place(run).walk():
        (open_place(f"{bucket}/run") / found.name).write((run / found.name).read_bytes())
    with fetched(f"{bucket}/run", ["expert-second"]) as folder:
        assert not folder.file("pretrained").exists()
    with fetched(f"{bucket}/run", ["expert-third"]) as folder:
        (kept,) = folder.file("pretrained").rglob("tiny.onnx")
        assert kept.read_bytes() == (tmp_path / "run-network" / "tiny.onnx").read_bytes()
    with fetched_for_predicting(f"{bucket}/run") as folder:
        far = Predictor.load(folder.path)
    noise = make_sound(1.0)
    expected = Predictor.load(run).predict(noise, RATE_HZ).probabilities
    assert far.predict(noise, RATE_HZ).probabilities == expected
