"""A disk that is full or read-only: an error that says where, and what was reached is whole."""

import itertools

import pytest

from xmoe.base.errors import StorageError
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.pipeline.fit import fit_run
from xmoe.run.folder import RunFolder
from xmoe.training.session import read_history


def weights_of(run, which="best"):
    """Return the bytes of every weights file that a pointer names."""
    files = RunFolder(run).checkpoint_folder(which).glob("*.safetensors")
    return {path.name: path.read_bytes() for path in files}


def fill(disk, room_kib=0):
    """Write until there is only so much room; return the file that takes the rest."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            handle.writelines(bytes(4096) for _ in itertools.count())
        except OSError:
            handle.truncate(handle.tell() - room_kib * 1024)
    return filler


def check_error(error, disk):
    assert str(disk) in error.where
    assert "No space left" in error.what
    assert "free some space" in error.mend


def check_whole(run):
    """Assert that both checkpoints can be read, and that nothing half written lies about."""
    folder = RunFolder(run)
    for which in ("best", "last"):
        folder.load_state(which)
        for name in weights_of(run, which):
            folder.load_tensors(name.removesuffix(".safetensors"), which)
    left = [path.name for path in run.rglob("*") if ".tmp" in path.name]
    assert left == []


@pytest.mark.parametrize(("after", "room_kib"), [(1, 0), (3, 4), (3, 12), (3, 600)])
def test_disk_that_fills_up_in_training_costs_nothing_that_was_reached(
    request_for, tones, small_disk, fitted, after, room_kib
):
    disk = small_disk(8192)
    fillers = []

    def fill_up(stage, done, total=None, note=""):
        if (stage, done) == ("train", after):
            fillers.append(fill(disk, room_kib))

    with pytest.raises(StorageError) as raised:
        fit_run(request_for(tones, disk / "run"), progress=fill_up)
    check_error(raised.value, disk)
    check_whole(disk / "run")
    assert len(read_history(RunFolder(disk / "run"))) in (after, after + 1)
    assert RunFolder(disk / "run").load_state("last")["epoch"] == after
    fillers[0].unlink()
    fit_run(request_for(tones, disk / "run", resume=True))
    assert weights_of(disk / "run") == weights_of(fitted.run_dir)
    assert MoEAudioClassifier.load(disk / "run").classes_.tolist() == ["low", "top"]


@pytest.mark.slow
@pytest.mark.parametrize("size_kib", [16, 64, 256, 1024, 3072, 3584, 4096, 5120])
def test_disk_that_is_too_small_is_told_at_whatever_moment(
    request_for, tones, small_disk, size_kib
):
    disk = small_disk(size_kib)
    try:
        fit_run(request_for(tones, disk / "run"))
    except StorageError as error:
        check_error(error, disk)
        print(f"{size_kib} KiB: {error}")
    else:
        print(f"{size_kib} KiB: enough")
    if RunFolder(disk / "run").exists("last"):
        check_whole(disk / "run")


def test_read_only_output_is_told_before_anything_is_trained(request_for, tones, small_disk):
    disk = small_disk(1024)
    small_disk(read_only=True)

    def refuse(job, progress):
        raise AssertionError("training was begun")

    with pytest.raises(StorageError, match="Read-only file system") as raised:
        fit_run(request_for(tones, disk / "run", engine=refuse))
    assert str(disk) in raised.value.where
    assert "--out" in raised.value.mend
