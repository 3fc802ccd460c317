"""A reader beside a writer reads one mixture, never parts of two."""

import json

import pytest
import torch

from xmoe.base.errors import RunFolderError
from xmoe.run.folder import RunFolder
from xmoe.run.steady import read_steadily


def write(folder, value):
    parts = {name: {"x": torch.tensor([value])} for name in ("stem", "router")}
    folder.save_checkpoint("closed", parts, {"value": value}, which=("best", "last"))


def test_parts_are_read_anew_where_a_checkpoint_is_replaced_between_them(tmp_path):
    folder, values = RunFolder(tmp_path), iter((2.0, 3.0))
    write(folder, 1.0)

    def read():
        stem = float(folder.load_tensors("stem")["x"])
        if (value := next(values, None)) is not None:
            write(folder, value)
        return stem, float(folder.load_tensors("router")["x"])

    assert read_steadily(folder, read) == (3.0, 3.0)


def test_what_is_damaged_and_stays_so_is_an_error_at_once(tmp_path):
    folder, tries = RunFolder(tmp_path), []
    write(folder, 1.0)
    (folder.checkpoint_folder() / "stem.safetensors").write_bytes(b"no weights")

    def read():
        tries.append(1)
        return folder.load_tensors("stem")

    with pytest.raises(RunFolderError, match="SHA-256 differs"):
        read_steadily(folder, read)
    assert len(tries) == 1


def test_a_checkpoint_that_never_rests_is_an_error(tmp_path):
    folder, count = RunFolder(tmp_path), iter(range(100))
    with pytest.raises(RunFolderError, match="changes all the time"):
        read_steadily(folder, lambda: write(folder, float(next(count))))


def test_every_change_has_a_fingerprint_of_its_own(tmp_path):
    folder, seen = RunFolder(tmp_path), []
    for value in (1.0, 2.0, 1.0):
        write(folder, value)
        seen.append(folder.fingerprint())
    assert seen[0] == seen[2] != seen[1]
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["folder"]
