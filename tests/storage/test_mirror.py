"""What is in an object store is fetched once, whole, and again only where it changed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fixtures.stores import note_gets, upload
from xmoe.base.errors import InputError, StorageError
from xmoe.storage.mirror import (
    cache_folder,
    cached,
    fetch_files,
    fetch_folder,
    is_address,
    local_path,
    name_address,
)
from xmoe.storage.place import Place, open_place

NAMES = [f"{index:02d}.wav" for index in range(40)]


@pytest.fixture
def folder(tmp_path):
    """Forty small files, two of them further down."""
    made = tmp_path / "set"
    (made / "a" / "b").mkdir(parents=True)
    for index, name in enumerate([*NAMES, "a/1.wav", "a/b/2.wav"]):
        (made / name).write_bytes(bytes([index]) * (1000 + index))
    return made


@pytest.fixture
def asked(object_store):
    """The names of the objects that were read."""
    names: list[str] = []
    object_store.refuse = note_gets(names, ".wav")
    return names


def contents(folder):
    return {found.name: (folder / found.name).read_bytes() for found in open_place(folder).walk()}


def set_clock_back(folder, seconds=10):
    """Let what was fetched look older, as if the store were written to later."""
    for path in folder.rglob("*.wav"):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def test_fetched_once_and_nothing_again(folder, bucket, asked):
    address = upload(folder, f"{bucket}/set")
    steps = []
    here = fetch_folder(address, progress=lambda *step: steps.append(step))
    assert contents(here) == contents(folder)
    assert here == local_path(address) == cache_folder() / "s3:" / bucket[5:] / "set"
    assert len(asked) == 42
    size = sum(path.stat().st_size for path in folder.rglob("*.wav"))
    assert steps[-1] == ("fetch", 42, 42, f"42 new, {size / 1e6:.1f} MB")
    asked.clear()
    assert fetch_folder(address) == here
    assert asked == []


def test_options_of_an_address_are_not_part_of_the_path_below_it(folder, bucket, object_store):
    upload(folder, f"{bucket}/set")
    options = f"?endpoint_override={object_store.endpoint}"
    here = fetch_folder(f"{bucket}/set{options}")
    assert contents(here) == contents(folder)
    assert here != local_path(f"{bucket}/set")
    (here / "a/1.wav").unlink()
    fetch_files([f"{bucket}/set/a/1.wav{options}"])
    assert local_path(f"{bucket}/set/a/1.wav{options}") == here / "a/1.wav"
    assert contents(here) == contents(folder)
    assert name_address(str(here / "a/1.wav")) == f"{bucket}/set/a/1.wav"


def test_others_may_read_what_was_fetched_where_the_umask_lets_them(folder, bucket):
    before = os.umask(0o027)
    try:
        here = fetch_folder(upload(folder, f"{bucket}/set"))
    finally:
        os.umask(before)
    assert (here / "00.wav").stat().st_mode & 0o777 == 0o640


def test_changed_objects_are_fetched_again_and_removed_ones_are_gone(folder, bucket, asked):
    address = upload(folder, f"{bucket}/set")
    here = fetch_folder(address)
    asked.clear()
    (open_place(address) / "03.wav").write(b"longer than it was" * 100)
    (open_place(address) / "a").remove_folder()
    (here / "05.wav").unlink()
    fetch_folder(address)
    assert sorted(asked) == ["03.wav", "05.wav"]
    assert (here / "03.wav").read_bytes() == b"longer than it was" * 100
    assert not (here / "a").exists()


def test_an_object_of_the_same_size_and_a_later_time_is_another(folder, bucket, asked):
    address = upload(folder, f"{bucket}/set")
    here = fetch_folder(address)
    set_clock_back(here)
    asked.clear()
    fetch_folder(address)
    assert len(asked) == 42


def test_only_what_is_wanted_is_fetched_and_the_rest_is_not_removed(folder, bucket, asked):
    address = upload(folder, f"{bucket}/set")
    here = fetch_folder(address)
    asked.clear()
    (here / "07.wav").unlink()
    fetch_folder(address, wanted=lambda name: name < "05")
    assert (asked, (here / "39.wav").exists(), (here / "07.wav").exists()) == ([], True, False)


def test_another_folder_only_gains_and_keeps_what_is_newer(folder, bucket, tmp_path):
    address = upload(folder, f"{bucket}/set")
    mine = tmp_path / "mine"
    (mine / "a").mkdir(parents=True)
    for name, changed_s in (("00.wav", 10), ("01.wav", -10), ("a/own.wav", -10)):
        (mine / name).write_bytes(b"mine")
        os.utime(mine / name, (time.time() + changed_s,) * 2)
    assert fetch_folder(address, to=mine) == mine
    assert (mine / "00.wav").read_bytes() == b"mine"
    assert (mine / "01.wav").read_bytes() == (folder / "01.wav").read_bytes()
    assert (mine / "a/own.wav").read_bytes() == b"mine"
    assert len(contents(mine)) == 43


def test_reader_that_was_killed_goes_on_where_it_was(folder, bucket, object_store):
    address = upload(folder, f"{bucket}/set")
    here, asked, release = local_path(address), [], threading.Event()

    def hold(method, path):
        if method == "GET" and path.endswith(".wav"):
            asked.append(path.rpartition("/")[2])
            if len(asked) > 25:
                release.wait(60)
        return False

    object_store.refuse = hold
    code = f"from xmoe.storage.mirror import fetch_folder; fetch_folder({address!r})"
    reader = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    deadline = time.monotonic() + 60
    while len(asked) < 27 or len(contents(here)) < 10:
        assert time.monotonic() < deadline
        assert reader.poll() is None
        time.sleep(0.05)
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    before = contents(here)
    assert 10 <= len(before) < 42
    assert all((folder / name).read_bytes() == data for name, data in before.items())
    release.set()
    object_store.refuse = note_gets(again := [], ".wav")
    fetch_folder(address)
    lacked = contents(folder).keys() - before.keys()
    assert set(again) == {Path(name).name for name in lacked}  # the killed one's last calls too
    assert contents(here) == contents(folder)


def test_torn_files_of_long_ago_are_removed(folder, bucket):
    address = upload(folder, f"{bucket}/set")
    here = fetch_folder(address)
    for name, age_s in ((".00.wav.x.tmp", 2 * 86_400), (".01.wav.x.tmp", 60)):
        (here / name).write_bytes(b"torn")
        os.utime(here / name, (time.time() - age_s,) * 2)
    fetch_folder(address)
    assert [path.name for path in here.glob(".*")] == [".01.wav.x.tmp"]


def test_file_that_came_short_is_an_error_and_does_not_stand_under_its_name(
    folder, bucket, monkeypatch
):
    address = upload(folder, f"{bucket}/set")
    whole = Place.blocks

    def short(self):
        for block in whole(self):
            yield block[:-7] if self.name == "11.wav" else block

    with monkeypatch.context() as patch:
        patch.setattr(Place, "blocks", short)
        with pytest.raises(InputError, match="came short: 1004 of 1011 bytes") as caught:
            fetch_folder(address)
    assert caught.value.where == f"{address}/11.wav"
    here = local_path(address)
    assert not (here / "11.wav").exists()
    assert list(here.rglob("*.tmp")) == []
    fetch_folder(address)
    assert contents(here) == contents(folder)


def test_connection_that_is_cut_is_an_error_that_names_the_object(bucket, object_store, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x.wav").write_bytes(os.urandom(5000))
    address = upload(tmp_path / "set", f"{bucket}/set")
    object_store.cut = lambda method, path: method == "GET" and path.endswith("x.wav")
    with pytest.raises(InputError) as caught:
        fetch_folder(address)
    assert caught.value.where == f"{address}/x.wav"
    assert contents(local_path(address)) == {}


def test_single_files_are_fetched_to_the_same_places(folder, bucket, asked):
    address = upload(folder, f"{bucket}/set")
    wanted = [f"{address}/a/1.wav", f"{address}/00.wav", f"{address}/none.wav"]
    fetch_files([*wanted, wanted[0]])
    assert sorted(contents(local_path(address))) == ["00.wav", "a/1.wav"]
    assert sorted(asked) == ["00.wav", "1.wav"]
    fetch_files(wanted)
    assert len(asked) == 2


def test_single_file_that_is_no_more_is_removed_here(folder, bucket):
    address = upload(folder, f"{bucket}/set")
    fetch_files([f"{address}/a/1.wav"])
    (open_place(address) / "a").remove_folder()
    fetch_files([f"{address}/a/1.wav"])
    assert contents(local_path(address)) == {}


@pytest.mark.parametrize("start", ["../", "/", "a//"])
def test_names_that_lead_elsewhere_are_refused(folder, bucket, monkeypatch, start):
    with pytest.raises(InputError, match="leads upwards"):
        local_path("s3://bucket/../../etc/passwd")
    with pytest.raises(InputError, match="leads upwards"):
        cached(Place("s3", "bucket/../../.."), "unpublished")
    address = upload(folder, f"{bucket}/set")
    walk = Place.walk

    def mean(self):
        for found in walk(self):
            yield type(found)(f"{start}{found.name}", found.size, found.stamp)

    monkeypatch.setattr(Place, "walk", mean)
    with pytest.raises(InputError, match=f"leads elsewhere: {re.escape(start)}00"):
        fetch_folder(address)
    assert not local_path(address).exists()


def test_what_is_denied_says_what_to_set_and_no_secret(folder, bucket, object_store):
    address = upload(folder, f"{bucket}/set")
    object_store.refuse = lambda method, path: path.endswith("09.wav")
    with pytest.raises(InputError, match="ACCESS_DENIED") as caught:
        fetch_folder(address)
    assert caught.value.where == f"{address}/09.wav"
    assert "AWS_ACCESS_KEY_ID" in (caught.value.mend or "")
    assert "\n" not in str(caught.value)


def test_bucket_that_is_not_there(bucket):
    with pytest.raises(InputError) as caught:
        fetch_folder("s3://no-such-bucket-at-all/set")
    assert caught.value.where == "s3://no-such-bucket-at-all/set"
    assert "bucket" in str(caught.value)
    with pytest.raises(InputError, match="no such folder"):
        fetch_folder(f"{bucket}/nothing/here")


def test_endpoint_that_nobody_answers_at():
    address = "s3://bucket/set?endpoint_override=http://127.0.0.1:9&region=us-east-1"
    with pytest.raises(InputError) as caught:
        fetch_folder(address)
    assert caught.value.where == "s3://bucket/set"
    assert "endpoint" in (caught.value.mend or "")


@pytest.mark.slow
def test_full_disk_is_told_with_the_file(folder, bucket, small_disk, monkeypatch):
    address = upload(folder, f"{bucket}/set")
    monkeypatch.setenv("XMOE_CACHE", str(small_disk(32) / "cache"))
    with pytest.raises(StorageError, match="No space left"):
        fetch_folder(address)


def test_what_is_at_google_is_fetched_alike(folder, google_store):
    address = upload(folder, "gs://mirrored/set")
    here = fetch_folder(address)
    assert contents(here) == contents(folder)
    assert len(google_store.asked) == 42
    google_store.asked.clear()
    fetch_folder(address)
    assert google_store.asked == []
    google_store.objects["mirrored/set/03.wav"] = (b"new", time.time() + 5)
    del google_store.objects["mirrored/set/04.wav"]
    fetch_folder(address)
    assert google_store.asked == ["mirrored/set/03.wav"]
    assert ((here / "03.wav").read_bytes(), (here / "04.wav").exists()) == (b"new", False)


def test_cache_is_where_it_was_told_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("XMOE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "xmoe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "xmoe"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("s3:/b/set/a.wav line 7", "s3://b/set/a.wav line 7"),
        ("unpublished/gs:/b/run", "gs://b/run"),
        ("unpublished/beside-0f/gs:/b/run", "gs://b/run"),
        ("s3?region%3Dx%26y%3Dhttp%3A%2F%2Fz:/b/a.wav", "s3://b/a.wav"),
        ("other/x", None),
        ("/else/x", "/else/x"),
        ("x.wav", None),
    ],
)
def test_paths_in_the_cache_are_named_by_their_address(path, shown, monkeypatch, tmp_path):
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path))
    asked = path if path.startswith("/") else str(tmp_path / path)
    assert name_address(asked) == (shown or asked)


def test_addresses_are_told_from_paths(tmp_path):
    assert [is_address(text) for text in ("s3://b/x", "gs://b", "file:///x", "x", tmp_path)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert local_path(f"file://{tmp_path}/x") == tmp_path / "x"
    assert fetch_folder(f"file://{tmp_path}") == tmp_path
