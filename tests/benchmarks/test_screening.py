"""The screening benchmark makes its sound as it says and compares all its ways on a tiny run."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import chirp

from tests.fixtures.backbones import tiny_backbone
from tests.fixtures.closed_runs import closed_config, closed_model
from tests.fixtures.runs import RATE_HZ, write_run
from xmoe.base.config import BackboneSpec
from xmoe.base.files import read_json

FILE = Path(__file__).parents[2] / "benchmarks" / "screening.py"
TARGETS = ("hum", "tone")


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_screening", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "benchmark_screening", module)
        spec.loader.exec_module(module)
        patch.setattr(module, "TARGETS", TARGETS)
        yield module


@pytest.fixture(scope="module")
def clips():
    """Three classes, two sources a split, 2.5 s of a rising tone each."""
    time_s = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
    return {
        split: {
            label: [
                (f"{split}{source}", chirp(time_s, 200 + 300 * number, 2.5, 900 + 50 * source))
                for source in range(2)
            ]
            for number, label in enumerate((*TARGETS, "rain"))
        }
        for split in ("train", "val", "test")
    }


@pytest.fixture
def run(tmp_path):
    """A mixture of two cheap experts and a network."""
    card = tiny_backbone(tmp_path, least_s=0.1, window_s=0.4)
    tiny = BackboneSpec(name="third", card=card, folder=str(tmp_path))
    config = closed_config()
    model = config.model.model_copy(update={"experts": (*config.model.experts[:2], tiny)})
    classes = ("background", *TARGETS)
    config = config.model_copy(update={"model": model, "classes": classes})
    return write_run(tmp_path / "work" / "run", config, model=closed_model(config))


def test_training_clips_hold_part_of_an_event_and_keep_sources_apart(benchmark, clips, tmp_path):
    root = benchmark.make_training_set(tmp_path / "set", clips, RATE_HZ, 0)
    rows = [line.split(",") for line in (root / "metadata.csv").read_text().split()[1:]]
    splits = {}
    for name, split, label, group in rows:
        assert label in ("background", *TARGETS)
        assert sf.info(root / name).duration == 3.0
        splits.setdefault(group, set()).add(split)
    assert all(len(own) == 1 for own in splits.values())
    assert splits["val0"] == splits["val1"] == {"test"}
    assert not set(splits) & {"test0", "test1"}


def test_events_lie_where_the_truth_says_and_as_loud_as_drawn(benchmark, clips, tmp_path):
    path = tmp_path / "recording.wav"
    truth = benchmark.make_recording(path, clips["test"], RATE_HZ, [[3], [4], [5]])
    sound = sf.read(path)[0]
    assert len(sound) == 180 * RATE_HZ
    assert len(truth) == 3
    for number, event in enumerate(truth):
        assert event.label in TARGETS
        assert 60 * number <= event.start_s < event.end_s <= 60 * (number + 1)
        assert event.end_s - event.start_s == pytest.approx(2.0)
        inside = sound[round(event.start_s * RATE_HZ) : round(event.end_s * RATE_HZ)]
        over_db = 10 * np.log10(np.mean(inside**2) / benchmark.LEVEL**2 - 1)
        assert -2.0 < over_db < 17.0
        inside[:] = 0.0
    level = np.sqrt(np.square(sound.reshape(-1, RATE_HZ)).mean(1)).reshape(3, 60).max(1)
    assert level[0] > level[1:].max()  # another class, in the first alone


def test_windows_heard_alone_stand_for_all_their_time(benchmark, tmp_path):
    card = tiny_backbone(tmp_path, least_s=1.0, window_s=3.0)
    cells = np.stack([1.5 * np.arange(5) + 0.75, 1.5 * np.arange(5) + 2.25], 1)
    heard = benchmark.Heard(np.eye(5), cells, 5, 10.0, np.arange(5.0))
    some = benchmark.pick(heard, np.array([3, 0, 1]), card)
    assert some.cells_s.tolist() == [[0.0, 2.25], [2.25, 4.5], [4.5, 7.5]]
    assert some.probabilities.argmax(1).tolist() == [0, 1, 3]
    assert (some.calls, some.seconds) == (3, 6.0)


def test_all_ways_are_compared_and_a_stopped_call_goes_on(
    benchmark, clips, run, tmp_path, capsys, monkeypatch
):
    (run.parent / "set").mkdir()
    for known in ("set/metadata.csv", f"{run.name}/metrics.json"):
        (run.parent / known).touch()
    monkeypatch.setattr(benchmark, "read_clips", lambda *_: (clips, RATE_HZ))
    monkeypatch.setattr(benchmark, "PART_MIN", 1)
    monkeypatch.setattr(benchmark, "CHANCES", (1.0, 0.02))
    monkeypatch.setattr(benchmark, "SHARES", (0.1, 0.5))
    out = tmp_path / "picture.png"
    words = ["--dataset", "x", "--backbone", "x", "--work", run.parent, "--minutes", 1]
    words += ["--hop", 0.4, "--out", out]
    monkeypatch.setattr(sys, "argv", ["screening.py", *map(str, words)])
    benchmark.main()
    table = capsys.readouterr().out
    rows = read_json(out.with_suffix(".json"))
    assert table.count("| grid | 1 | 299 | 100.0% | 100.0% |") == 1
    for scene in benchmark.SCENES:
        calls = {}
        for row in rows:
            assert 0.0 <= row["f1"] <= 1.0
            if row["scene"] == scene:
                calls.setdefault(row["way"], []).append(row["calls"])
        assert calls["energy"] == calls["uniform"] == calls["random"] == [30, 150]
        assert calls["xmoe"][0] == 0 < calls["xmoe"][1] < 150
    monkeypatch.setattr(benchmark, "hear_grid", None)  # all is known
    benchmark.main()
    assert capsys.readouterr().out == table
    assert read_json(out.with_suffix(".json")) == rows
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--seed", "1"])
    with pytest.raises(SystemExit, match="the work of other options"):
        benchmark.main()
