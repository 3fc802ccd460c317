"""A worker writes its part first and its entry second; a write that fails is a clear error."""

import errno
import os

import pytest

from xmoe.base import files
from xmoe.base.errors import StorageError
from xmoe.batch.ledger import Shard
from xmoe.batch.shards import ShardJob, ShardWorker, work_here
from xmoe.storage.place import open_place

SHARD = Shard(3, ("0/000.wav", "1/bad.wav"))


@pytest.fixture
def job(tiny_run, clips, tmp_path):
    return ShardJob(str(tiny_run), str(clips), str(tmp_path / "preds"), "parquet")


def test_part_and_entry_are_written(job, tmp_path):
    receipt = ShardWorker(job)(SHARD)
    assert (receipt.shard, receipt.file, receipt.rows) == (3, "part-00003.parquet", 2)
    assert [row[:2] for row in receipt.bad] == [("1/bad.wav", "not_audio")]
    assert (tmp_path / "preds" / receipt.file).stat().st_size == receipt.size
    assert (tmp_path / "preds/_done/00003.json").is_file()


def test_shard_done_twice_has_the_same_bytes(job):
    worker = ShardWorker(job)
    assert worker(SHARD) == worker(SHARD) == next(work_here(job, [SHARD]))


def test_run_and_output_in_a_store(job, tiny_run, bucket, tmp_path):
    for found in open_place(tiny_run).walk():
        (open_place(f"{bucket}/run") / found.name).write((tiny_run / found.name).read_bytes())
    stored = ShardJob(f"{bucket}/run", job.base, f"{bucket}/preds", "parquet")
    assert ShardWorker(stored)(SHARD) == ShardWorker(job)(SHARD)
    assert (open_place(bucket) / "preds/part-00003.parquet").read()


def test_full_disk_leaves_no_entry(job, monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        ShardWorker(job)(SHARD)
    assert caught.value.where.endswith("part-00003.parquet")
    assert list(open_place(tmp_path / "preds").walk()) == []


def test_store_that_refuses_the_entry_leaves_the_shard_undone(job, bucket, object_store):
    stored = ShardJob(job.run, job.base, f"{bucket}/preds", "parquet")
    object_store.refuse = lambda method, path: method == "PUT" and "_done" in path
    with pytest.raises(StorageError, match="ACCESS_DENIED") as caught:
        ShardWorker(stored)(SHARD)
    assert caught.value.where == f"{bucket}/preds/_done/00003.json"
