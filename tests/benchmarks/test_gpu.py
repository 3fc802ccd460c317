"""The benchmark of GPUs runs from end to end on a CPU, with itself as the other device."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
FILE = FOLDER / "gpu.py"


@pytest.fixture(scope="module")
def gpu_bench():
    """What the sections share: rows, rates and differences."""
    spec = importlib.util.spec_from_file_location("gpu_bench", FOLDER / "gpu_bench.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gpu_bench", module)
        spec.loader.exec_module(module)
        yield module


def test_every_section_has_rows_and_the_cpu_agrees_with_itself(tmp_path):
    out = tmp_path / "gpu.md"
    command = [sys.executable, str(FILE), "--quick", "--device", "cpu", "--out", str(out)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert told.returncode == 0, told.stdout + told.stderr[-3000:]
    assert told.stdout.endswith("parity: holds\n")
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    names = " ".join(row["what"] for row in rows)
    for part in ("copy", "cwt", "kernels", "answers", "epoch", "stem", "training step"):
        assert part in names
    assert all(row["card"] > 0 and row["cpu"] > 0 for row in rows)
    exact = [row for row in rows if "bf16" not in row["what"] and row["difference"] is not None]
    assert max(row["difference"] for row in exact) < 1e-5
    assert out.read_text() == told.stdout.removesuffix("\nparity: holds\n")


@pytest.mark.parametrize(("difference", "sound"), [(0.01, True), (0.03, False), (torch.nan, False)])
def test_a_row_is_sound_within_its_bound(gpu_bench, difference, sound):
    row = gpu_bench.Row("a", "clips/s", 1.0, 2.0, difference, 0.02)
    assert row.sound is sound
    assert ("BROKEN" in row.cells()[5]) is not sound


def test_a_difference_that_is_not_a_number_is_told(gpu_bench):
    one = torch.tensor([1.0, torch.nan])
    assert not gpu_bench.differ(one, torch.ones(2)) <= 1.0
    assert gpu_bench.differ(torch.ones(2), torch.tensor([1.0, 1.5])) == 0.5
