"""A run that is written to an address: whole at every moment, and gone on with from anywhere."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.fixtures.stores import upload
from xmoe.base.errors import ConfigError, InputError, RunFolderError, StorageError
from xmoe.run import publish
from xmoe.run.folder import RunFile, RunFolder, pointer_file
from xmoe.run.publish import MARKS, fetch_run, published, push
from xmoe.run.remote import fetched_for_predicting, identify_run
from xmoe.storage.mirror import UNPUBLISHED, cache_folder
from xmoe.storage.place import Place, open_place


@pytest.fixture
def puts(object_store):
    """The names of the objects that are written, in their order."""
    names: list[str] = []

    def note(method, path):
        if method == "PUT":
            names.append(path.partition("/run/")[2])
        return False

    object_store.refuse = note
    return names


def names_at(address):
    return {found.name for found in open_place(address).walk()}


def same_files(folder, address):
    place = open_place(address)
    return all((folder / name).read_bytes() == (place / name).read() for name in names_at(address))


def save(folder, name, value):
    """Write a checkpoint and point to it."""
    tensors = {"stem": {"w": torch.full((4,), value)}}
    return RunFolder(folder).save_checkpoint(name, tensors, {}, which=("best", "last"))


def write(address, work, *, resume=False):
    """Do ``work`` in the folder that is published; returns it."""
    with published(address, resume=resume) as folder:
        work(folder)
    return folder


def wait_for(done):
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_path_is_used_where_it_is(tmp_path):
    with published(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
    with published(f"file://{tmp_path}/run", resume=False) as folder:
        assert folder == tmp_path / "run"


def test_run_is_at_its_address_and_its_copy_is_gone(tiny_run, bucket):
    address = f"{bucket}/run"
    with published(address, resume=False) as folder:
        shutil.copytree(tiny_run, folder, dirs_exist_ok=True)
        (folder / RunFile.STORES).mkdir()
        (folder / RunFile.STORES / "test.npy").write_bytes(b"large")
        (folder / ".hidden.tmp").write_bytes(b"torn")
    assert names_at(address) == {found.name for found in open_place(tiny_run).walk()}
    assert same_files(tiny_run, address)
    assert not folder.exists()
    assert identify_run(address) == identify_run(tiny_run)
    with fetched_for_predicting(address) as fetched:
        assert RunFolder(fetched.path).load_tensors("expert-low")


def test_marks_come_last_in_their_order(tiny_run, bucket, puts):
    with published(f"{bucket}/run") as folder:
        shutil.copytree(tiny_run, folder, dirs_exist_ok=True)
        (folder / RunFile.METRICS).write_text("{}")
    marks = [name.rpartition("/")[2] for name in puts if name.rpartition("/")[2] in MARKS]
    assert puts[-len(marks) :] == [name for name in puts if name.rpartition("/")[2] in MARKS]
    assert marks == sorted(marks, key=MARKS.index)
    assert (marks[-1], puts[-2]) == (RunFile.METRICS, pointer_file("best"))


def test_each_checkpoint_is_there_while_the_run_goes_on(bucket, monkeypatch):
    monkeypatch.setattr(publish, "POLL_S", 0.05)
    address = f"{bucket}/run"
    pointer = open_place(f"{address}/{pointer_file('best')}")
    with published(address, resume=False) as folder:
        (folder / RunFile.FEATURES).mkdir()
        (folder / RunFile.FEATURES / "x.npy").write_bytes(b"in work")
        for name in ("one", "two"):
            save(folder, name, 1.0)
            wait_for(lambda name=name: pointer.kind() == "file" and name.encode() in pointer.read())
            wait_for(lambda name=name: f"checkpoints/{name}/manifest.json" in names_at(address))
        wait_for(lambda: "checkpoints/one/manifest.json" not in names_at(address))
        assert RunFile.FEATURES + "/x.npy" not in names_at(address)
    assert RunFile.FEATURES + "/x.npy" in names_at(address)


def test_only_what_changed_is_sent(tiny_run, bucket, puts, tmp_path):
    run, address = shutil.copytree(tiny_run, tmp_path / "copy"), f"{bucket}/run"
    push(run, open_place(address))
    assert len(puts) == len(names_at(address))
    puts.clear()
    push(run, open_place(address))
    assert puts == []
    (run / RunFile.METRICS).write_text("{}")
    push(run, open_place(address))
    assert puts == [RunFile.METRICS]


def test_a_pointer_of_the_same_size_that_changed_at_once_is_sent(bucket, tmp_path):
    run, address = tmp_path / "copy", f"{bucket}/run"
    save(run, "epoch-1", 1.0)
    push(run, open_place(address))
    save(run, "epoch-2", 2.0)
    push(run, open_place(address))
    assert b"epoch-2" in open_place(f"{address}/{pointer_file('best')}").read()
    assert {name.split("/")[1] for name in names_at(address) if name.count("/") == 2} == {"epoch-2"}


def test_checkpoint_that_is_replaced_meanwhile_is_named_by_nobody(bucket, tmp_path, monkeypatch):
    run, address = tmp_path / "copy", f"{bucket}/run"
    save(run, "one", 1.0)
    push(run, open_place(address))
    save(run, "two", 2.0)
    send, begun = publish._send, []

    def replace_first(file, target, stamp):
        if not begun:
            begun.append(target)
            save(run, "three", 3.0)
        send(file, target, stamp)

    monkeypatch.setattr(publish, "_send", replace_first)
    monkeypatch.setattr(publish, "map_ahead", lambda work, items, **_: map(work, items))
    with pytest.raises(FileNotFoundError):
        push(run, open_place(address))
    assert b"one" in open_place(f"{address}/{pointer_file('best')}").read()
    assert "checkpoints/one/manifest.json" in names_at(address)
    push(run, open_place(address))
    assert b"three" in open_place(f"{address}/{pointer_file('best')}").read()


def test_files_beside_a_run_leave_its_checkpoints_alone(tiny_run, bucket):
    address = upload(tiny_run, f"{bucket}/run")
    before = names_at(address)
    with published(address) as folder:
        (folder / "eval-test").mkdir()
        (folder / "eval-test" / RunFile.METRICS).write_text("{}")
    assert names_at(address) == before | {f"eval-test/{RunFile.METRICS}"}


def test_what_is_written_beside_a_run_in_training_leaves_it_alone(bucket):
    address, evaluated = f"{bucket}/run", f"eval-test/{RunFile.METRICS}"
    with published(address, resume=False) as training:
        save(training, "two", 2.0)
        push(training, open_place(address))
        save(training, "three", 3.0)
        with published(address) as beside:
            assert list(beside.iterdir()) == []
            (beside / "eval-test").mkdir()
            (beside / evaluated).write_text("{}")
        there = names_at(address)
        assert evaluated in there
        assert "checkpoints/two/manifest.json" in there
        assert "checkpoints/three/manifest.json" not in there
        assert RunFolder(training).checkpoint_folder().name == "three"
    assert evaluated in names_at(address)
    assert list((cache_folder() / UNPUBLISHED).glob("beside-*")) == []


def test_what_failed_beside_a_run_is_removed_and_what_was_not_sent_is_kept(bucket, object_store):
    with pytest.raises(ValueError, match="inside"), published(f"{bucket}/run") as folder:
        raise ValueError("inside")
    assert not folder.exists()
    assert list((cache_folder() / UNPUBLISHED).glob("beside-*")) == []
    object_store.refuse = lambda method, path: method == "PUT"
    with pytest.raises(StorageError) as caught, published(f"{bucket}/run") as folder:
        (folder / "x").write_bytes(b"1")
    assert str(folder) in (caught.value.mend or "")
    assert (folder / "x").read_bytes() == b"1"


@pytest.mark.parametrize("resume", [False, True])
def test_second_writer_of_a_run_is_refused_until_the_first_ends(bucket, resume):
    address = f"{bucket}/run"
    with published(address, resume=False) as folder:
        with pytest.raises(ConfigError, match="another command writes") as caught:
            write(address, lambda folder: pytest.fail("it was begun"), resume=resume)
        assert folder.is_dir()
    assert caught.value.where == address
    assert write(address, lambda folder: None, resume=resume) == folder


@pytest.mark.parametrize("resume", [None, False, True])
def test_address_that_leads_out_of_the_cache_is_refused(bucket, resume):
    kept = cache_folder() / "kept"
    kept.mkdir(parents=True)
    with pytest.raises(InputError, match="leads upwards"):
        write(f"{bucket}/../../..", lambda folder: None, resume=resume)
    assert kept.is_dir()


def test_run_that_is_there_is_not_written_over(tiny_run, bucket):
    address = upload(tiny_run, f"{bucket}/run")
    with pytest.raises(ConfigError, match="holds a run already") as caught:
        write(address, lambda folder: pytest.fail("it was begun"))
    assert caught.value.where == address
    with published(address, resume=True) as folder:
        assert same_files(folder, address)


def test_what_was_not_published_is_gone_on_with(bucket):
    address = f"{bucket}/run"

    def stop(folder):
        (folder / RunFile.METRICS).write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(address, stop)
    folder = cache_folder() / UNPUBLISHED / "s3:" / address[5:]
    assert (folder / RunFile.METRICS).exists()
    assert open_place(address).kind() == "nothing"
    assert write(address, lambda again: None, resume=True) == folder
    assert open_place(f"{address}/{RunFile.METRICS}").read() == b"{}"


def test_of_two_machines_the_later_one_holds(bucket, tmp_path, monkeypatch):
    address, here = f"{bucket}/run", os.environ["XMOE_CACHE"]

    def stop(folder):
        save(folder, "one", 1.0)
        for path in folder.rglob("*"):
            os.utime(path, (time.time() - 60,) * 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(address, stop)
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another"))
    write(address, lambda folder: save(folder, "two", 2.0), resume=True)
    monkeypatch.setenv("XMOE_CACHE", here)
    with published(address, resume=True) as third:
        assert RunFolder(third).checkpoint_folder("best").name == "two"
        assert RunFolder(third).load_tensors("stem")["w"].tolist() == [2.0] * 4


def test_address_that_cannot_be_written_keeps_the_run_here(tiny_run, bucket, object_store):
    object_store.refuse = lambda method, path: method == "PUT"
    with pytest.raises(StorageError, match="ACCESS_DENIED") as caught:
        write(f"{bucket}/run", lambda folder: shutil.copytree(tiny_run, folder, dirs_exist_ok=True))
    assert str(cache_folder() / UNPUBLISHED) in (caught.value.mend or "")
    assert caught.value.where.startswith(f"{bucket}/run/")
    object_store.refuse = lambda method, path: False
    write(f"{bucket}/run", lambda folder: None, resume=True)
    assert same_files(tiny_run, f"{bucket}/run")


def test_checkpoint_that_cannot_be_sent_is_said_and_tried_again(bucket, object_store, monkeypatch):
    monkeypatch.setattr(publish, "POLL_S", 0.05)
    said = []
    object_store.refuse = lambda method, path: method == "PUT"
    pointer = open_place(f"{bucket}/run/{pointer_file('best')}")
    with published(f"{bucket}/run", progress=lambda *step: said.append(step)) as folder:
        save(folder, "one", 1.0)
        wait_for(lambda: any("ACCESS_DENIED" in step[-1] for step in said))
        object_store.refuse = lambda method, path: False
        wait_for(lambda: pointer.kind() == "file")


def test_pointer_that_cannot_be_read_once_is_read_again(bucket, monkeypatch):
    monkeypatch.setattr(publish, "POLL_S", 0.05)
    read, failed, said = Path.read_bytes, [], []

    def fail_once(path):
        if threading.current_thread().name == "polling" and not failed:
            failed.append(path)
            raise OSError("busy")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail_once)
    pointer = open_place(f"{bucket}/run/{pointer_file('best')}")
    with published(f"{bucket}/run", progress=lambda *step: said.append(step)) as folder:
        save(folder, "one", 1.0)
        wait_for(lambda: pointer.kind() == "file")
    assert said[0] == ("publish", 0, 1, "busy")


def test_large_files_are_sent_a_part_at_a_time(bucket, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.npy").write_bytes(os.urandom(20 * 2**20))
    written, sizes = Place._write_stored, []

    def note(self, blocks):
        blocks = list(blocks)
        sizes.extend(map(len, blocks))
        written(self, blocks)

    monkeypatch.setattr(Place, "_write_stored", note)
    push(tmp_path / "run", open_place(f"{bucket}/run"))
    assert sizes == [8 * 2**20, 8 * 2**20, 4 * 2**20]
    assert same_files(tmp_path / "run", f"{bucket}/run")


def test_run_whose_checkpoint_is_replaced_meanwhile_is_fetched_again(bucket, tmp_path, monkeypatch):
    run, address = tmp_path / "copy", f"{bucket}/run"
    save(run, "one", 1.0)
    push(run, open_place(address))
    walk, names = Place.walk, ["three", "two"]

    def replaced(self):
        found = list(walk(self))
        if not self.is_local and names:
            time.sleep(1.1)  # times in a store are whole seconds
            save(run, names.pop(), 2.0)
            with monkeypatch.context() as patch:
                patch.setattr(Place, "walk", walk)
                push(run, self)
        return iter(found)

    monkeypatch.setattr(Place, "walk", replaced)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "FETCHES", 1)
        with pytest.raises(RunFolderError, match="changed while it was fetched"):
            fetch_run(address)
    folder = RunFolder(fetch_run(address))
    assert folder.checkpoint_folder().name == "three"
    assert folder.load_tensors("stem")["w"].tolist() == [2.0] * 4


def test_whole_run_is_fetched_without_what_can_be_made_again(tiny_run, bucket):
    address = upload(tiny_run, f"{bucket}/run")
    (open_place(address) / RunFile.FEATURES / "x.npy").write(b"large")
    folder = fetch_run(address)
    assert {found.name for found in open_place(folder).walk()} == {
        found.name for found in open_place(tiny_run).walk()
    }
    assert fetch_run(tiny_run) == tiny_run
    assert fetch_run(f"file://{tiny_run}") == tiny_run


def test_run_is_published_at_google_alike(tiny_run, google_store):
    address = "gs://published/run"
    write(address, lambda folder: shutil.copytree(tiny_run, folder, dirs_exist_ok=True))
    assert same_files(tiny_run, address)
    assert identify_run(address) == identify_run(tiny_run)
    with pytest.raises(ConfigError, match="holds a run already"):
        write(address, lambda folder: pytest.fail("it was begun"))
    before = dict(google_store.objects)
    write(address, lambda folder: None, resume=True)
    assert google_store.objects == before
