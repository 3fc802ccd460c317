"""The script that shows releases: gate, shadow, canary, promotion, a way back, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.deployments.conftest import ROOT, free_ports
from tests.fixtures.runs import make_sound, to_wav, write_figures, write_run
from xmoe.predict.golden import write_golden
from xmoe.run.folder import RunFolder

SCRIPT = ROOT / "cluster" / "local_deploy.py"


def read_states(registry: Path) -> list[dict]:
    """Return every state of a registry, in order."""
    return [json.loads(path.read_text()) for path in sorted(registry.glob("*.json"))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_releases_from_nothing_and_nothing_is_left(tmp_path):
    runs = []
    for seed, (name, right) in enumerate((("good", 90), ("other", 91), ("worse", 8))):
        runs.append(write_run(tmp_path / name, seed=seed))
        write_figures(runs[-1], [True] * right + [False] * (100 - right))
        write_golden(RunFolder(runs[-1]))
    data = tmp_path / "data"
    data.mkdir()
    for seed in range(12):
        (data / f"{seed}.wav").write_bytes(to_wav(make_sound(seed=seed)))
    first = free_ports(1)[0] % 20000 + 20000
    words = ["--runs", *runs, "--data", data, "--keep", tmp_path / "kept", "--port", first]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words), "--cpus", "4"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    states = read_states(tmp_path / "kept" / "registry" / "xmoe")
    assert [state["change"]["what"] for state in states] == [
        *("rolling out", "deployed"),
        *("rolling out", "on trial", "trial ended"),
        *("rolling out", "on trial", "rolling out", "promoted"),
        *("rolling out", "failed"),
        *("rolling out", "rolled back"),
    ]
    assert states[-1]["production"] == 1
    assert states[-1]["past"] == []
    assert "accuracy 0.0800 is no better than the commonest answer" in said
    trial = states[4]["change"]["note"]
    asked = int(trial.split(": ")[1].split()[2])
    assert asked >= 20
    assert "; 0 lost" in said.splitlines()[-1] or "; 0 lost" in said
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info)]
    assert left == []
