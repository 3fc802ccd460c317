"""One way to list, read and write, on a disk and in an object store: whole or not at all."""

import hashlib
import io
import os
import pickle

import pytest

from xmoe.base.errors import InputError, StorageError
from xmoe.storage import place as places
from xmoe.storage.place import Place, open_place, store_reason

MIB = 2**20


@pytest.fixture(params=["disk", "file address", "store"])
def folder(request, tmp_path):
    """An empty folder of each kind."""
    if request.param == "disk":
        return open_place(tmp_path / "a folder")
    if request.param == "file address":
        return open_place(f"file://{tmp_path}/a%20folder")
    return open_place(request.getfixturevalue("bucket") + "/a folder")


@pytest.mark.parametrize("name", ["x.bin", "deep/er/é ü.bin", "a#b%20c?d.bin"])
def test_what_is_written_is_read_back(folder, name):
    (folder / name).write(b"old")
    (folder / name).write(b"newer")
    assert (folder / name).read() == b"newer"
    assert (folder / name).read(at_most=3) == b"new"
    assert [(found.name, found.size) for found in folder.walk()] == [(name, 5)]


def test_kinds(folder):
    (folder / "x").write(b"1")
    assert [folder.kind(), (folder / "x").kind(), (folder / "y").kind()] == [
        "folder",
        "file",
        "nothing",
    ]


def test_walk_is_sorted_and_passes_over_what_is_hidden(folder):
    for name in ("b", "a/2", "a/1", ".x", ".h/y", "a/.z"):
        (folder / name).write(b"")
    assert [(one.name, one.size) for one in folder.walk()] == [("a/1", 0), ("a/2", 0), ("b", 0)]


def test_missing_file_and_folder(folder):
    with pytest.raises(FileNotFoundError):
        (folder / "x").read()
    with pytest.raises(InputError, match="no such") as caught:
        list((folder / "x").walk())
    assert "address" in (caught.value.mend or "")


def test_address_gives_the_same_place(folder):
    assert open_place((folder / "x y").address) == folder / "x y"
    assert pickle.loads(pickle.dumps(folder)) == folder


def test_options_travel_with_an_address_and_are_not_shown():
    place = open_place("s3://b/runs/?endpoint_override=http://127.0.0.1:1&region=eu-west-1")
    assert place.key == "b/runs"
    assert (place / "x").address.endswith("/x?" + place.options)
    assert (place / "x").shown == "s3://b/runs/x"


def test_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_place("x").path == tmp_path / "x"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3:///key", "names no bucket"),
        ("s3://id:secret@bucket/key", "neither a key"),
        ("s3://id:with/secret@bucket/key", "neither a key"),
        ("s3://host:9000/bucket/key", "nor a port"),
        ("nothing://bucket/key", "cannot be opened"),
        ("s3://bucket/key?no_such_option=1", "cannot be opened"),
    ],
)
def test_addresses_that_are_none(address, words):
    with pytest.raises(InputError, match=words) as caught:
        open_place(address)
    assert "secret" not in str(caught.value)


def test_unknown_bucket_is_a_storage_error_that_says_so(bucket):
    with pytest.raises(StorageError, match="NO_SUCH_BUCKET") as caught:
        open_place("s3://no-such-bucket/x").write(b"1")
    assert caught.value.where == "s3://no-such-bucket/x"
    assert "Request ID" not in caught.value.what


def test_refused_write_leaves_what_was_there(bucket, object_store):
    place = open_place(f"{bucket}/x")
    place.write(b"old")
    object_store.refuse = lambda method, path: method == "PUT"
    with pytest.raises(StorageError, match="ACCESS_DENIED") as caught:
        place.write(b"new")
    assert "as it was" in (caught.value.mend or "")
    assert place.read() == b"old"


def test_write_refused_in_the_middle_leaves_what_was_there(bucket, object_store):
    place, parts = open_place(f"{bucket}/large"), []
    place.write(b"old")

    def second_part(method, path):
        parts.append(path) if method == "PUT" else None
        return method == "PUT" and len(parts) == 2

    object_store.refuse = second_part
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        place.write(os.urandom(25 * MIB))
    assert len(parts) >= 2
    object_store.refuse = lambda method, path: False
    assert place.read() == b"old"


@pytest.mark.parametrize("size", [0, 1, 20 * MIB])
def test_open_file_is_written_a_part_at_a_time(bucket, size):
    asked = []

    class Asked(io.BytesIO):
        def read(self, most=-1):
            asked.append(most)
            return super().read(most)

    data = os.urandom(size)
    place = open_place(f"{bucket}/large")
    place.write_from(Asked(data))
    assert place.read() == data
    assert set(asked) == {8 * MIB}


@pytest.mark.parametrize("refused", ["PUT", "POST"])
def test_part_that_is_refused_leaves_what_was_there(bucket, object_store, refused):
    place = open_place(f"{bucket}/large")
    place.write(b"old")
    object_store.refuse = lambda method, path: method == refused
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        place.write_from(io.BytesIO(os.urandom(25 * MIB)))
    object_store.refuse = lambda method, path: False
    assert place.read() == b"old"


def test_refused_reading_and_listing_name_the_address(bucket, object_store):
    place = open_place(f"{bucket}/x")
    place.write(b"1")
    object_store.refuse = lambda method, path: method in ("GET", "HEAD")
    for attempt in (place.read, place.kind, lambda: list(open_place(bucket).walk())):
        with pytest.raises(InputError, match="cannot be read") as caught:
            attempt()
        assert caught.value.where.startswith(bucket)


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="not a directory"):
        list(open_place(tmp_path / "x").walk())


def test_local_write_that_fails_is_told_with_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write") as caught:
        (open_place(tmp_path) / "file/x").write(b"")
    assert caught.value.where == str(tmp_path / "file/x")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "no space left on device"),
        (OSError("AWS Error SLOW_DOWN during x: y (Request ID: 1)\nmore"), "SLOW_DOWN during x: y"),
        (
            OSError(
                "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of "
                "no host error_info={reason=, metadata={gcloud-cpp.retry.on-entry=false}})"
            ),
            "UNAVAILABLE: no host",
        ),
        (
            OSError("x: google::cloud::Status(NOT_FOUND: no such bucket)"),
            "NOT_FOUND: no such bucket",
        ),
        (ValueError("plain"), "plain"),
        (OSError(), "OSError"),
    ],
)
def test_reason_is_one_line(error, words):
    assert store_reason(error) == words


def test_file_systems_are_opened_once():
    assert places._file_system("s3", "b", "") is places._file_system("s3", "b", "")
    assert isinstance(open_place("gs://bucket/x"), Place)


def test_linked_folders_are_entered_once_and_links_to_nothing_are_missed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "store").mkdir()
    for name in ("in/1.wav", "store/2.wav"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "in/night").symlink_to("../store")
    (tmp_path / "store/back").symlink_to("../in")
    (tmp_path / "in/self").symlink_to(".")
    (tmp_path / "in/dead.wav").symlink_to("../gone.wav")
    found = {one.name: one for one in open_place(tmp_path / "in").walk()}
    assert {name: one.size for name, one in found.items()} == {
        "1.wav": 5,
        "dead.wav": 0,
        "night/2.wav": 5,
    }
    assert found["dead.wav"].stamp == ""


def test_stamp_changes_with_what_is_written(tmp_path):
    file = open_place(tmp_path / "a")
    assert file.stamp() == ""
    file.write(b"1")
    (found,) = open_place(tmp_path).walk()
    assert found.stamp == file.stamp() != ""
    os.utime(tmp_path / "a", ns=(0, 5))
    changed = (tmp_path / "a").stat().st_ctime_ns
    assert file.stamp() == f"1 5 {changed}"


def test_what_was_replaced_under_the_old_size_and_time_has_another_stamp(tmp_path):
    file = open_place(tmp_path / "a")
    file.write(b"1")
    os.utime(tmp_path / "a", ns=(0, 5))
    before = file.stamp()
    file.write(b"2")
    os.utime(tmp_path / "a", ns=(0, 5))
    assert file.stamp().split()[:2] == before.split()[:2]
    assert file.stamp() != before


def test_hash_is_of_all_bytes_and_empty_where_nothing_can_be_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (3 << 19))
    place = open_place(tmp_path)
    assert (place / "a").sha256() == hashlib.sha256(b"x" * (3 << 19)).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    assert (place / "pipe").sha256() == ""
    assert ((place / "gone").sha256(), place.sha256(), (place / "a\0").sha256()) == ("", "", "")


@pytest.mark.parametrize(
    ("scheme", "words", "mend"),
    [
        ("s3", "ACCESS_DENIED during HeadObject operation", "AWS_ACCESS_KEY_ID"),
        ("gs", "Status(PERMISSION_DENIED: x)", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("s3", "NO_SUCH_BUCKET during ListObjectsV2 operation", "bucket's name"),
        ("s3", "NETWORK_CONNECTION: curlCode: 7, Couldn't connect to server", "endpoint"),
        ("s3", "SLOW_DOWN", "otherwise"),
        ("", "permission denied", "otherwise"),
    ],
)
def test_mend_is_told_by_the_words_of_the_store(scheme, words, mend):
    assert mend in places._mend(scheme, words, "otherwise")


def test_folder_of_a_store_is_removed_whole(bucket, object_store):
    folder = open_place(f"{bucket}/set")
    for name in ("a/1", "a/b/2", "c"):
        (folder / name).write(b"1")
    (folder / "a").remove_folder()
    assert [found.name for found in folder.walk()] == ["c"]
    object_store.refuse = lambda method, path: method in ("POST", "DELETE")
    with pytest.raises(StorageError, match="cannot remove") as caught:
        folder.remove_folder()
    assert "AWS_ACCESS_KEY_ID" in (caught.value.mend or "")
