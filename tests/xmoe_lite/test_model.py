"""The reader answers as the run does, without torch, and refuses what is no export."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.fixtures.closed_runs import closed_config, closed_model
from tests.fixtures.runs import RATE_HZ, make_sound, to_wav, write_run
from xmoe.export.folder import export_run
from xmoe.predict.predictor import Predictor
from xmoe_lite.model import Model
from xmoe_lite.sound import LiteError

RATES = (RATE_HZ, 4000, 11025, 44100)


def differ(run, out, samples, rate_hz=RATE_HZ):
    """Return the largest difference of a probability, and how many experts each asked."""
    full, lite = Predictor.load(run), Model(out)
    expected, found = full.predict(samples, rate_hz), lite.predict(samples, rate_hz)
    assert (found["label"], found["segments"]) == (expected.label, expected.segments)
    pairs = zip(expected.probabilities.values(), found["probabilities"].values(), strict=True)
    return max(abs(one - other) for one, other in pairs), (expected.k, found["k"])


def test_one_round_and_two_are_those_of_the_run(closed):
    run, out = closed
    full, lite, counts = Predictor.load(run), Model(out), set()
    assert full.model.first_most == 2
    for seed in range(16):
        noise = np.random.default_rng(seed).standard_normal(3200).astype(np.float32)
        samples = 0.1 * noise if seed % 2 else make_sound(0.4, seed=seed // 2)
        expected, found = full.predict(samples, RATE_HZ), lite.predict(samples, RATE_HZ)
        assert found["k"] == expected.k
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        counts.add(found["k"])
    assert {1.0, 3.0} <= counts


@pytest.mark.parametrize("rate_hz", RATES)
def test_recordings_of_any_length_and_rate_are_answered_alike(closed, rate_hz):
    rng = np.random.default_rng(rate_hz)
    for seconds in (0.02, 0.31, 0.4, 1.73):
        samples = (0.1 * rng.standard_normal(round(seconds * rate_hz))).astype(np.float32)
        difference, counts = differ(*closed, samples, rate_hz)
        assert (difference < 1e-4, counts[0]) == (True, counts[1])


def test_silence_is_answered_alike(closed):
    difference, _ = differ(*closed, np.zeros(4000, np.float32))
    assert difference < 1e-4


@pytest.mark.parametrize("frontend", ["cqt", "cwt"])
def test_a_stem_of_long_filters_is_exact_on_short_recordings(tmp_path, frontend):
    config = closed_config()
    spectro = config.spectro.model_copy(update={"frontend": frontend, "fmin_hz": 100.0})
    config = config.model_copy(update={"spectro": spectro})
    run = write_run(tmp_path / "run", config, model=closed_model(config))
    out = export_run(run, tmp_path / "out").folder
    for seconds in (0.1, 0.4):
        difference, _ = differ(run, out, make_sound(seconds, seed=1))
        assert difference < 1e-4


def test_a_network_hears_its_most_salient_windows(asked):
    for seed in range(4):
        difference, counts = differ(*asked, make_sound(0.9, seed=seed))
        assert (difference < 1e-4, counts) == (True, (3.0, 3.0))


def test_a_network_that_fails_is_left_out(asked):
    samples = np.zeros(RATE_HZ, np.float32)
    samples[:3200] = make_sound(0.4)
    difference, _ = differ(*asked, samples)
    assert difference < 1e-4


def test_neither_torch_nor_ray_nor_xmoe_is_loaded(closed, tmp_path):
    _, out = closed
    (tmp_path / "a.wav").write_bytes(to_wav(make_sound(0.5), subtype="PCM_16"))
    code = """
import runpy, sys
sys.argv = ["xmoe_lite", ".", sys.argv[1]]
try:
    runpy.run_module("xmoe_lite", run_name="__main__")
except SystemExit as left:
    assert not left.code
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "ray", "xmoe", "scipy", "pydantic", "sklearn"}))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.wav")]
    environment = {"PYTHONPATH": str(out), "PATH": ""}
    done = subprocess.run(
        command, cwd=out, env=environment, capture_output=True, text=True, check=True
    )
    answer, loaded = done.stdout.splitlines()
    assert "experts asked" in answer
    assert loaded == "[]"


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(10, np.float32), "no 10 ms"),
        (np.zeros((2, 8000), np.float32), "no 10 ms"),
        (np.full(8000, np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_recording_is_refused(closed, samples, words):
    with pytest.raises(LiteError, match=words):
        Model(closed[1]).predict(samples, RATE_HZ)


@pytest.mark.parametrize("name", ["model.json", "router.json", "stem.npz", "stem.onnx"])
def test_a_torn_folder_is_refused(closed, tmp_path, name):
    shutil.copytree(closed[1], tmp_path / "out")
    content = (tmp_path / "out" / name).read_bytes()
    (tmp_path / "out" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(LiteError, match="export the run again"):
        Model(tmp_path / "out")


def test_a_folder_for_another_reader_is_refused(closed, tmp_path):
    shutil.copytree(closed[1], tmp_path / "out")
    path = tmp_path / "out" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(LiteError, match="another reader"):
        Model(tmp_path / "out")
