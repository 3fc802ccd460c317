"""What is done is told by entries whose parts are there, byte for byte; nothing else counts."""

import csv
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.base.errors import ConfigError, StorageError
from xmoe.batch.ledger import BatchPlan, Ledger, Receipt, cut_shards, hash_names, part_name
from xmoe.storage.place import open_place

PLAN = BatchPlan(
    base="/set", run="0" * 16, num_inputs=3, names_sha256="1", shard_size=2, format="csv"
)


@given(st.lists(st.text(), max_size=40), st.integers(1, 9))
def test_every_name_is_in_one_shard_in_order(names, size):
    shards = cut_shards(names, size)
    assert [name for shard in shards for name in shard.names] == names
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(len(shard.names) == size for shard in shards[:-1])


def test_hash_tells_names_and_their_bounds():
    assert hash_names(["ab", "c"]) == hash_names(["ab", "c"])
    assert len({hash_names(names) for names in (["ab", "c"], ["a", "bc"], ["c", "ab"])}) == 3


def do_shard(ledger, number, data=b"rows", bad=()):
    """Write a part and its entry, as a worker does."""
    name = part_name(number, "csv")
    (ledger.output / name).write(data)
    digest = hashlib.sha256(data).hexdigest()
    receipt = Receipt(shard=number, file=name, rows=2, size=len(data), sha256=digest, bad=bad)
    ledger.record(receipt)
    return receipt


@pytest.fixture(params=["disk", "store"])
def ledger(request, tmp_path):
    """A ledger that was begun, on a disk and in a store."""
    where = request.getfixturevalue("bucket") if request.param == "store" else tmp_path
    begun = Ledger(open_place(f"{where}/preds"))
    assert begun.begin(PLAN) == {}
    return begun


def test_what_is_recorded_is_done(ledger):
    receipts = [do_shard(ledger, 0), do_shard(ledger, 1, bad=(("a", "empty", "b", "c"),))]
    assert Ledger(ledger.output).begin(PLAN) == dict(enumerate(receipts))


def test_part_without_an_entry_is_not_done(ledger):
    (ledger.output / part_name(0, "csv")).write(b"rows")
    assert ledger.begin(PLAN) == {}


@pytest.mark.parametrize("data", [b"row", b"rowz", None])
def test_part_with_other_bytes_is_not_done(ledger, data):
    do_shard(ledger, 0)
    part = ledger.output / part_name(0, "csv")
    if data is not None:
        part.write(data)
    elif part.is_local:
        part.path.unlink()
    else:
        part._files().delete_file(part.key)
    assert ledger.begin(PLAN) == {}


def test_torn_entry_is_not_done(ledger):
    do_shard(ledger, 0)
    (ledger.output / "_done/00000.json").write(b'{"shard": 0, "fi')
    assert ledger.begin(PLAN) == {}


def test_another_plan_is_refused_and_says_what_differs(ledger):
    other = PLAN.model_copy(update={"shard_size": 3, "run": "f" * 16})
    with pytest.raises(ConfigError, match="another run, shard_size") as caught:
        ledger.begin(other)
    assert caught.value.where == ledger.output.shown


def test_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"other files \(thesis\.txt\)"):
        Ledger(open_place(tmp_path)).begin(PLAN)


def test_empty_folder_is_taken(tmp_path):
    assert Ledger(open_place(tmp_path)).begin(PLAN) == {}
    assert (tmp_path / "_plan.json").is_file()


def test_plan_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "_plan.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a plan of answers"):
        Ledger(open_place(tmp_path)).begin(PLAN)


def test_end_lists_parts_and_bad_recordings(ledger):
    bad = (("x.wav", "empty", "no samples", "leave it out"),)
    receipts = [do_shard(ledger, 1, bad=bad), do_shard(ledger, 0)]
    ledger.finish(PLAN, receipts, ["a.wav"])
    manifest = json.loads((ledger.output / "_manifest.json").read())
    assert (manifest["rows"], manifest["bad"], manifest["repeated"]) == (4, 1, ["a.wav"])
    assert [part["file"] for part in manifest["parts"]] == ["part-00000.csv", "part-00001.csv"]
    rows = csv.reader((ledger.output / "_quarantine.csv").read().decode().splitlines())
    assert list(rows)[1:] == [list(bad[0])]


def test_end_removes_what_a_killed_process_left(tmp_path):
    ledger = Ledger(open_place(tmp_path))
    ledger.begin(PLAN)
    (tmp_path / ".part-00000.csv.123.tmp").touch()
    ledger.finish(PLAN, [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_manifest.json",
        "_plan.json",
        "_quarantine.csv",
    ]


def test_store_that_refuses_the_plan_is_a_storage_error(bucket, object_store):
    object_store.refuse = lambda method, path: method == "PUT"
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        Ledger(open_place(f"{bucket}/preds")).begin(PLAN)
