"""Batch inference on Ray gives the bytes of the plain loop; a kill loses and repeats nothing."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.base.errors import InputError, RunFolderError, StorageError, XmoeError
from xmoe.batch.ledger import Receipt, Shard
from xmoe.batch.run import BatchRequest, infer_batch
from xmoe.jobs import infer as jobs
from xmoe.run.folder import RunFolder
from xmoe.storage.place import open_place

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def write_clips(folder, count):
    folder.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for index in range(count):
        sf.write(folder / f"{index:05d}.wav", noise[index % 4000 :][:3200], 8000, subtype="PCM_16")
    (folder / "bad.wav").write_bytes(b"nonsense" * 20)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "set", 30)


def request_of(run, clips, output, **changes):
    settings = {"run": str(run), "source": str(clips), "output": str(output), "shard_size": 8}
    return BatchRequest(**settings | {"device": "cpu"} | changes)


def test_shards_survive_the_journey():
    shards = [Shard(3, ("a", "é/b")), Shard(4, ("c",))]
    tables = pa.concat_tables([jobs.shard_to_table(shard) for shard in shards])
    assert jobs.table_to_shards(tables) == shards


@pytest.mark.parametrize("kind", [StorageError, RunFolderError, InputError, XmoeError])
def test_errors_survive_the_journey(kind):
    error = kind("what", where="where", mend="mend")
    again = jobs.rebuild_error(json.loads(json.dumps(error.as_dict())))
    assert (type(again), again.as_dict()) == (kind, error.as_dict())


def test_actor_answers_in_rows_and_sends_an_error_as_one(tiny_run, clips, tmp_path):
    job = {"base": str(clips), "output": str(tmp_path / "preds"), "format": "csv"}
    table = jobs.shard_to_table(Shard(0, ("00000.wav",)))
    (receipt,) = jobs.read_outcomes(jobs.ShardActor({"run": str(tiny_run), **job})(table))
    assert (receipt.shard, receipt.rows) == (0, 1)
    lost = jobs.ShardActor({"run": str(tmp_path / "none"), **job})(table)
    with pytest.raises(RunFolderError, match="no such file"):
        list(jobs.read_outcomes(lost))


@pytest.mark.parametrize(
    ("engine", "limit", "used"),
    [("auto", 31, "loop"), ("auto", 30, "ray"), ("loop", 0, "loop"), ("ray", 99, "ray")],
)
def test_engine_is_chosen_by_number(tiny_run, clips, tmp_path, monkeypatch, engine, limit, used):
    calls = []

    def note(name):
        def work(job, shards, **options):
            calls.append(name)
            yield from ()

        return work

    monkeypatch.setattr(jobs, "LOOP_MAX_NAMES", limit)
    monkeypatch.setattr(jobs, "work_here", note("loop"))
    monkeypatch.setattr(jobs, "work_on_ray", note("ray"))
    jobs.run_infer(request_of(tiny_run, clips, tmp_path / "preds"), engine=engine)
    assert calls == [used]


def test_ray_gives_the_bytes_of_the_loop(tiny_run, clips, local_ray, tmp_path):
    here, there, calls = tmp_path / "here", tmp_path / "there", []
    infer_batch(request_of(tiny_run, clips, here))
    summary = jobs.run_infer(
        request_of(tiny_run, clips, there),
        engine="ray",
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    assert (summary.rows, summary.bad, summary.shards_done) == (31, 1, 4)
    names = [found.name for found in open_place(here).walk()]
    assert names == [found.name for found in open_place(there).walk()]
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in names)
    assert calls[-1] == ("infer", 31, 31)


def test_error_of_an_actor_is_raised_as_itself(tiny_run, clips, local_ray, tmp_path):
    request = request_of(tiny_run, clips, tmp_path / "preds")

    def lose_the_run(job, shards):
        RunFolder(tiny_run).file("run_config.json").rename(tmp_path / "config")
        try:
            yield from jobs.work_on_ray(job, shards, workers=1)
        finally:
            (tmp_path / "config").rename(RunFolder(tiny_run).file("run_config.json"))

    with pytest.raises(RunFolderError, match="no such file"):
        infer_batch(request, engine=lose_the_run)


def receipts(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "_done").glob("[0-9]*.json")}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_batch_goes_on_with_one_row_each(tiny_run, tmp_path):
    clips, out = write_clips(tmp_path / "set", 1500), tmp_path / "preds"
    command = [sys.executable, "-m", "xmoe", "infer", str(tiny_run), "--input", str(clips)]
    command += ["--output", str(out), "--engine", "ray", "--workers", "1", "--shard-size", "20"]
    process = subprocess.Popen([*command, "-q"], env=dict(os.environ), start_new_session=True)
    while len(receipts(out)) < 5 and process.poll() is None:
        time.sleep(0.02)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert process.wait() == -9
    for left in psutil.wait_procs(tree, timeout=30)[1]:
        left.kill()
    before = receipts(out)
    assert 5 <= len(before) < 76
    assert not (out / "_manifest.json").exists()
    done = subprocess.run([*command, "--json", "-q"], capture_output=True, check=False)
    fields = json.loads(done.stdout)
    assert (fields["rows"], fields["bad"], fields["shards"]) == (1501, 1, 76)
    assert fields["shards_done"] == 76 - len(before)
    rows = pq.read_table(out)["file"].to_pylist()
    assert sorted(rows) == sorted(path.name for path in clips.glob("*.wav"))
    after = receipts(out)
    assert {name: after[name] for name in before} == before
    assert Receipt.model_validate_json((out / "_done/00000.json").read_bytes()).rows == 20
