"""The serving benchmark measures and prints every way that it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

from tests.fixtures.runs import RATE_HZ, make_sound, write_run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "serving.py"


@pytest.mark.slow
@pytest.mark.timeout(600)  # five services start one after the other
def test_every_way_answers_and_has_its_row(tmp_path):
    pytest.importorskip("litserve", reason="a peer of the benchmark: pip install 'xmoe[bench]'")
    run, clip = write_run(tmp_path / "run"), tmp_path / "clip.wav"
    sf.write(clip, make_sound(), RATE_HZ)
    command = [sys.executable, str(FILE), "--run", str(run), str(clip), "--quick"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert told.returncode == 0, told.stderr[-3000:]
    rows = [line.split("|") for line in told.stdout.splitlines() if line.startswith("| ")][1:]
    names = [(row[1].strip(), int(row[2])) for row in rows]
    ways = ("distributed", "naive", "colocated", "baseline", "litserve")
    assert names == [(way, count) for way in ways for count in (1, 2)] + [
        ("asgi", 1),
        ("from_bytes", 1),
        ("predict", 1),
    ]
    assert all(float(row[5]) > 0 and float(row[6]) > 0 for row in rows)
    assert "outcomes other than 200: none" in told.stdout
