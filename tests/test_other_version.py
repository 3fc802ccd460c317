"""Every command that opens a run refuses one of another version, before it starts anything."""

import json
import socket

import numpy as np
import pytest
import soundfile as sf

from xmoe.cli import main
from xmoe.run.version import OURS

COMMANDS = {
    "infer": "infer {run} {clip}",
    "infer --hop": "infer {run} {clip} --hop 0.1",
    "infer --input": "infer {run} --input {set} --output {out}",
    "infer --input, run at an address": "infer file://{run} --input {set} --output {out}",
    "explain": "explain {run} {clip} --out {out}",
    "eval": "eval {run} --dataset {set}",
    "suggest": "suggest {run} --input {set} --out {out}",
    "report": "report {run} --out {out}",
    "report, recordings at hand": "report {run} --dataset {set} --out {out}",
    "train --resume": "train --dataset {set} --out {run} --resume --local",
    "serve": "serve {run} --port {port}",
    "serve, colocated": "serve {run} --port {port} --topology colocated",
    "serve, run at an address": "serve file://{run} --port {port}",
}
AGAIN = "train again: xmoe train --dataset {set} --out NEW"
REFUSALS = {
    "older": (OURS - 1, f"the run is of version {OURS - 1};", AGAIN),
    "newer": (OURS + 1, "the run was written by a newer xmoe:", "install the xmoe that wrote it"),
    "missing": (None, "the run names no schema_version:", AGAIN),
    "text": (str(OURS), f'the run\'s schema_version is "{OURS}",', AGAIN),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A set that can be trained on: twelve recordings of two classes."""
    root = tmp_path_factory.mktemp("data") / "set"
    noise = np.random.default_rng(0).normal(0, 0.1, (12, 2000)).astype(np.float32)
    for number, samples in enumerate(noise):
        split, label = ("train", "val", "test")[number % 3], "ab"[number % 2]
        (root / split / label).mkdir(parents=True, exist_ok=True)
        sf.write(root / split / label / f"{number}.wav", samples, 8000)
    return root


@pytest.fixture
def port():
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # Ray's own
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_run_of_another_version_is_refused(command, refusal, recordings, port, tmp_path, capsys):
    version, what, mend = REFUSALS[refusal]
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    settings = {"fields": "of then"} | ({} if version is None else {"schema_version": version})
    (run / "run_config.json").write_text(json.dumps(settings))
    (run / "dataset.json").write_text(json.dumps({"root": str(recordings)}))
    paths = {
        "run": run,
        "out": out,
        "port": port,
        "set": recordings,
        "clip": recordings / "train" / "a" / "0.wav",
    }
    with pytest.raises(SystemExit) as left:
        main([*COMMANDS[command].format(**paths).split(), "--json", "-q"])
    said = json.loads(capsys.readouterr().out)
    assert (left.value.code, said["ok"], said["error"]) == (2, False, "RunVersionError")
    assert said["what"].startswith(what)
    assert said["what"].endswith(f"reads version {OURS}")
    assert said["where"] == str(run / "run_config.json")
    assert said["mend"].startswith(mend.format(set=recordings))
    assert not out.exists()
    assert {path.name for path in run.iterdir()} == {"run_config.json", "dataset.json"}
