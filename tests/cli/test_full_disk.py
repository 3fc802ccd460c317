"""Every command that writes, with an output on a disk that is read-only or full: exit code 1, and
one line that names the file and how to mend it."""

import itertools
import shutil

import numpy as np
import pytest
import soundfile as sf

RATE_HZ = 8000
SPLITS = ("train", "train", "train", "val", "test")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Forty short recordings of two classes with a manifest."""
    root = tmp_path_factory.mktemp("recordings")
    rows = ["filepath,split,label"]
    for index in range(40):
        samples = 0.1 * np.random.default_rng(index).standard_normal(round(0.4 * RATE_HZ))
        sf.write(root / f"{index:02d}.wav", samples, RATE_HZ, subtype="PCM_16")
        label = ("x", "y")[index // len(SPLITS) % 2]
        rows.append(f"{index:02d}.wav,{SPLITS[index % len(SPLITS)]},{label}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


COMMANDS = {
    "profile": "profile {set} --out {disk}/out",
    "train": "train --dataset {set} --out {disk}/out --local --policy rule --epochs 1",
    "infer": "infer {run} --input {set} --output {disk}/out --engine loop",
    "explain": "explain {run} {set}/00.wav --out {disk}/out",
    "report": "report {run} --out {disk}/out.html",
    "synth": "synth {disk}/out",
    "demo": "demo --out {disk}/out",
    "hop": "infer {run} {set}/00.wav --hop 0.2 --out {disk}/out",
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("state", "reason"), [("ro", "read-only"), ("full", "no space left")])
def test_output_that_cannot_be_written(
    recordings, tiny_run, small_disk, run_json, undrawn, tmp_path, name, state, reason
):
    disk = small_disk(256)
    if state == "ro":
        small_disk(read_only=True)
    else:
        fill(disk)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    words = COMMANDS[name].format(set=recordings, disk=disk, run=run).split()
    code, fields = run_json(*words)
    assert code == 1, fields
    assert fields["error"] == "StorageError", fields
    assert str(disk) in fields["where"]
    assert reason in fields["what"].lower()
    assert fields["mend"]


def fill(disk):
    """Take every byte of a disk."""
    with pytest.raises(OSError, match="space"), (disk / "filler").open("wb", buffering=0) as handle:
        handle.writelines(bytes(4096) for _ in itertools.count())
