"""The run folder: writes are whole or not at all, and what is torn is refused by name."""

import errno
import hashlib
import json
import math
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.base.errors import RunFolderError, StorageError
from xmoe.base.files import read_json, storage_errors, to_json, write_bytes, write_json
from xmoe.run.folder import RunFolder, load_weights

CONFIG = RunConfig(
    classes=("a", "b"),
    spectro=SpectroConfig(),
    model=ModelConfig(experts=cnn_specs()),
    train=TrainConfig(),
)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def tensors_of(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "stem": {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)},
        "expert-low": {"bias": torch.arange(4.0) + step},
    }


def save_step(run: RunFolder, step: int, *, which: tuple[Any, ...] = ("last",)) -> Path:
    return run.save_checkpoint(f"epoch-{step}", tensors_of(step), {"step": step}, which=which)


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run whose best checkpoint is of epoch 1 and whose last is of epoch 2."""
    made = RunFolder(tmp_path / "run")
    save_step(made, 1, which=("best", "last"))
    save_step(made, 2)
    return made


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Let no file of this process grow over ``limit`` bytes: a write fails half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> list[str]:
    """Make the n-th sync or rename raise; return the list that calls are noted in."""
    calls: list[str] = []

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == number:
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    watch("fsync")
    watch("replace")
    return calls


def test_a_file_is_written_whole_in_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "x.bin"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert entries(path.parent) == {"x.bin"}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("raised", "seen"), [(FULL, StorageError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(
    tmp_path, monkeypatch, number, raised, seen
):
    path = tmp_path / "x.json"
    write_bytes(path, b"old")
    fail_at(monkeypatch, number, raised)
    with pytest.raises(seen):
        write_bytes(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == {"x.json"}


def test_a_write_that_stops_half_way_leaves_the_old_bytes(tmp_path):
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")
    with small_disk(64 * 1024), pytest.raises(StorageError, match="cannot write"):
        write_bytes(path, bytes(256 * 1024))
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == {"x.bin"}


def test_a_full_disk_is_a_storage_error_that_says_where_and_what_to_do(tmp_path, monkeypatch):
    fail_at(monkeypatch, 1, FULL)
    with pytest.raises(StorageError) as caught:
        write_json(tmp_path / "x.json", {})
    assert caught.value.where == str(tmp_path / "x.json")
    assert "No space left on device" in caught.value.what
    assert "--out" in (caught.value.mend or "")


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(tmp_path / "file" / "x.json", b"")


def test_other_errors_pass_through():
    with pytest.raises(ValueError, match="mine"), storage_errors(Path("x")):
        raise ValueError("mine")


def test_json_is_canonical():
    assert (
        to_json({"b": 1, "a": [True, None]})
        == '{\n  "a": [\n    true,\n    null\n  ],\n  "b": 1\n}\n'
    )
    assert to_json({"a": 1, "b": 2}) == to_json({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (math.nan, None),
        ([math.inf, -math.inf, 1.5], [None, None, 1.5]),
        (np.float32("nan"), None),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.5, np.nan]), [0.5, None]),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor([1.5, math.inf]), [1.5, None]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1: {2: math.nan}}, {"1": {"2": None}}),
        (
            ModelConfig(experts=cnn_specs(), k_max=0),
            ModelConfig(experts=cnn_specs(), k_max=0).model_dump(mode="json"),
        ),
        ("é\udc80", "é\udc80"),
    ],
)
def test_values_become_plain_json_and_not_finite_becomes_null(tmp_path, value, plain):
    write_json(tmp_path / "x.json", {"value": value})
    assert read_json(tmp_path / "x.json") == {"value": plain}


@pytest.mark.parametrize("data", [b"", b'{"a": ', b"\xff\xfe\x00", b"{} {}", b"[" * 10**5])
def test_torn_json_is_refused_by_name(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match="not readable as JSON") as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_missing_json_is_refused_by_name(tmp_path):
    with pytest.raises(RunFolderError, match="no such file") as caught:
        read_json(tmp_path / "x.json")
    assert caught.value.where == str(tmp_path / "x.json")
    assert "xmoe train" in (caught.value.mend or "")


def test_a_folder_in_place_of_json_is_refused_by_name(tmp_path):
    with pytest.raises(RunFolderError, match="not readable as JSON"):
        read_json(tmp_path)


def test_a_configuration_comes_back_equal_and_byte_for_byte(tmp_path):
    run = RunFolder(tmp_path)
    run.write_record("run_config.json", CONFIG)
    first = run.file("run_config.json").read_bytes()
    assert run.read_config() == CONFIG
    run.write_record("run_config.json", run.read_config())
    assert run.file("run_config.json").read_bytes() == first


def test_a_record_that_is_not_ours_is_refused_by_file_and_field(tmp_path):
    run = RunFolder(tmp_path)
    record = CONFIG.model_dump(mode="json")
    record["model"]["k_max"] = "many"
    run.write_record("run_config.json", record)
    with pytest.raises(RunFolderError, match=r"field model\.k_max") as caught:
        run.read_config()
    assert caught.value.where == str(tmp_path / "run_config.json")


def test_a_checkpoint_comes_back_bit_equal(tmp_path):
    run = RunFolder(tmp_path)
    parts = {
        "stem": {
            "turned": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T,
            "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            "learned": torch.nn.Parameter(torch.tensor([0.1])),
            "steps": torch.tensor(7),
            "empty": torch.zeros(0, 3),
        }
    }
    folder = run.save_checkpoint("one", parts, {"epoch": 3, "loss": 0.1}, which=("best", "last"))
    assert folder == run.checkpoint_folder("best") == run.checkpoint_folder("last")
    loaded = run.load_tensors("stem")
    assert set(loaded) == set(parts["stem"])
    for name, tensor in parts["stem"].items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert run.load_state() == {"epoch": 3, "loss": 0.1}


def test_the_manifest_lists_every_file_with_its_sum(run):
    folder = run.checkpoint_folder("last")
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # readable by as many
    sums = read_json(folder / "manifest.json")["sha256"]
    assert set(sums) == {"stem.safetensors", "expert-low.safetensors", "state.json"}
    assert set(sums) | {"manifest.json"} == entries(folder)
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_pointers_name_the_checkpoints_they_were_given(run):
    assert run.load_state("best") == {"step": 1}
    assert run.load_state("last") == {"step": 2}
    assert float(run.load_tensors("stem", "best")["weight"][0, 0]) == 1.0
    assert float(run.load_tensors("stem", "last")["weight"][0, 0]) == 2.0


def test_a_run_without_checkpoints_says_so(tmp_path):
    assert not RunFolder(tmp_path).exists("best")
    with pytest.raises(RunFolderError, match="no such file"):
        RunFolder(tmp_path).load_state()


def test_only_the_best_and_the_last_are_kept(run):
    save_step(run, 3)
    stale = run.checkpoints / ".epoch-9.4711.tmp"
    stale.mkdir()
    save_step(run, 4)
    assert entries(run.checkpoints) == {"epoch-1", "epoch-4", "best.json", "last.json"}
    save_step(run, 5, which=("best", "last"))
    assert entries(run.checkpoints) == {"epoch-5", "best.json", "last.json"}
    assert run.exists("best")


def test_a_name_used_again_never_writes_over_a_named_checkpoint(run):
    before = (run.checkpoint_folder("best") / "state.json").read_bytes()
    again = run.save_checkpoint("epoch-1", tensors_of(7), {"step": 7})
    assert again.name == "epoch-1-again"
    assert (run.checkpoint_folder("best") / "state.json").read_bytes() == before
    assert run.load_state("last") == {"step": 7}


# Two weights, a state and a manifest are synced, then two folders and a rename, then two pointers.
@pytest.mark.parametrize("raised", [FULL, KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("number", range(1, 13))
def test_wherever_a_save_stops_both_pointers_name_whole_checkpoints(
    run, monkeypatch, number, raised
):
    with monkeypatch.context() as patch:
        calls = fail_at(patch, number, raised)
        if number <= 11:
            expected = StorageError if raised is FULL else KeyboardInterrupt
            with pytest.raises(expected):
                save_step(run, 3, which=("best", "last"))
            assert len(calls) == number
        else:
            save_step(run, 3, which=("best", "last"))
            assert len(calls) == 11
    for which, old in (("best", 1), ("last", 2)):
        step = run.load_state(which)["step"]
        assert step in (old, 3)
        for part, key in (("stem", "weight"), ("expert-low", "bias")):
            assert torch.equal(run.load_tensors(part, which)[key], tensors_of(step)[part][key])
    assert not [name for name in entries(run.checkpoints) if name.endswith(".tmp")]
    save_step(run, 4, which=("best", "last"))
    assert entries(run.checkpoints) == {"epoch-4", "best.json", "last.json"}


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def unlist(path: Path) -> None:
    manifest = path.with_name("manifest.json")
    record = json.loads(manifest.read_text())
    del record["sha256"][path.name]
    manifest.write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["stem.safetensors", "state.json"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (alter, "SHA-256 differs"),
        (cut, "SHA-256 differs"),
        (Path.unlink, "no such file"),
        (unlist, "manifest does not list"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_file(run, name, damage, said):
    path = run.checkpoint_folder("last") / name
    damage(path)
    with pytest.raises(RunFolderError, match=said) as caught:
        run.load_state("last") if name == "state.json" else run.load_tensors("stem", "last")
    assert caught.value.where == str(path)
    assert run.load_state("best") == {"step": 1}


def test_a_checkpoint_without_a_manifest_is_refused_by_file(run):
    manifest = run.checkpoint_folder("last") / "manifest.json"
    manifest.unlink()
    with pytest.raises(RunFolderError, match="no such file") as caught:
        run.load_state()
    assert caught.value.where == str(manifest)


@pytest.mark.parametrize("folder", ["../../other", "/etc", "a/b", ".", "..", "", 3, None])
def test_a_pointer_that_leaves_the_checkpoints_is_refused_by_file(run, folder):
    pointer = run.checkpoints / "best.json"
    pointer.write_text(json.dumps({"folder": folder}))
    with pytest.raises(RunFolderError, match="names no checkpoint") as caught:
        run.checkpoint_folder("best")
    assert caught.value.where == str(pointer)


@pytest.mark.parametrize("record", ["[]", "3", "null", '"best"'])
def test_a_pointer_or_a_manifest_of_another_kind_is_refused_by_file(run, record):
    manifest = run.checkpoint_folder("last") / "manifest.json"
    for path, said in ((manifest, "lists no files"), (run.checkpoints / "last.json", "names no")):
        path.write_text(record)
        with pytest.raises(RunFolderError, match=said) as caught:
            run.load_tensors("stem", "last")
        assert caught.value.where == str(path)


def test_weights_too_large_for_the_disk_are_a_storage_error(run):
    large = {"stem": {"weight": torch.zeros(256 * 1024)}}
    with small_disk(64 * 1024), pytest.raises(StorageError, match="cannot write"):
        run.save_checkpoint("epoch-3", large, {"step": 3})
    assert run.load_state("last") == {"step": 2}
    assert entries(run.checkpoints) == {"epoch-1", "epoch-2", "best.json", "last.json"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_file_and_name(tmp_path, bad):
    run = RunFolder(tmp_path)
    run.save_checkpoint("one", {"stem": {"head.weight": torch.tensor([1.0, bad])}}, {})
    with pytest.raises(RunFolderError, match=r"head\.weight are not finite") as caught:
        run.load_tensors("stem", "last")
    assert caught.value.where == str(tmp_path / "checkpoints" / "one" / "stem.safetensors")


def test_a_file_that_is_no_safetensors_is_refused_whatever_its_sum(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(64)}, path)
    cut(path)
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(RunFolderError, match="not a whole safetensors file") as caught:
        load_weights(path, sha256=good)
    assert caught.value.where == str(path)


def test_nothing_of_a_checkpoint_is_trusted_before_its_sum(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    monkeypatch.setattr("safetensors.torch.load_file", lambda path: pytest.fail("was read"))
    with pytest.raises(RunFolderError, match="SHA-256 differs"):
        load_weights(path, sha256="0" * 64)
