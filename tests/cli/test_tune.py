"""``xmoe tune``: options become a search, Ctrl-C says how to go on, an interrupted one goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf

from xmoe.cli import main
from xmoe.jobs import suggest
from xmoe.jobs import tune as jobs
from xmoe.run.folder import RunFolder
from xmoe.tuning.pareto import TuneResult
from xmoe.tuning.search import SearchFolder, read_settings
from xmoe.tuning.space import TuneCandidate

RATE_HZ = 8000
SPLITS = ("train", "train", "train", "val", "test")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Sixty recordings of 0.3 s of two tones in noise, with a manifest."""
    root = tmp_path_factory.mktemp("tones")
    rows = ["filepath,split,label"]
    for index in range(60):
        rng = np.random.default_rng(index)
        name, tone_hz = (("low", 500.0), ("top", 2000.0))[index // len(SPLITS) % 2]
        samples = 0.2 * np.sin(2 * np.pi * tone_hz * np.arange(round(0.3 * RATE_HZ)) / RATE_HZ)
        samples += 0.05 * rng.standard_normal(len(samples))
        sf.write(root / f"{index:02d}.wav", samples, RATE_HZ, subtype="PCM_16")
        rows.append(f"{index:02d}.wav,{SPLITS[index % len(SPLITS)]},{name}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def make_result(number, accuracy, mmac):
    candidate = TuneCandidate(
        frontend="stft",
        num_bins=32,
        num_experts=4,
        k_max=2,
        window_frames=2,
        learning_rate=0.002,
    )
    return TuneResult(
        number=number,
        candidate=candidate,
        accuracy=accuracy,
        standard_error=0.02,
        mean_k=1.5,
        mmac=mmac,
        latency_ms=3.0,
        epochs=2,
        seconds=1.0,
    )


RESULTS = [make_result(0, 0.8, 1.0), make_result(1, 0.95, 2.0), make_result(2, 0.96, 9.0)]


@pytest.fixture
def searches(monkeypatch):
    """Put a search that only notes what it is asked in the place of the real one."""
    seen = []

    def search(folder, request, setting, policy, *, trials, progress):
        seen.append((request, setting, policy, trials))
        return RESULTS

    monkeypatch.setattr(jobs, "search", search)
    monkeypatch.setattr(suggest, "check_installed", lambda: None)
    return seen


def test_options_become_a_search(searches, run_json, tones, tmp_path):
    options = (
        "--trials 4 --epochs 2 --batch-size 8 --frontends stft,pcen,stft --max-mmac 4 --seed 3"
    )
    code, fields = run_json("tune", "--dataset", tones, "--out", tmp_path / "s", *options.split())
    assert code == 0
    ((request, setting, policy, trials),) = searches
    assert trials == 4
    assert request.space.frontends == ("stft", "pcen")
    assert (request.cost, request.most) == ("mmac", 4.0)
    assert (request.train.epochs, request.train.batch_size, request.train.seed) == (2, 8, 3)
    assert policy.spectro.frontend == "stft"
    assert len(setting.dataset.split("train")) == 36
    assert fields["front"] == [0, 1, 2]
    assert fields["chosen"]["number"] == 1


def test_time_is_the_cost_where_it_is_bounded(searches, run_json, tones, tmp_path):
    run_json("tune", "--dataset", tones, "--out", tmp_path / "s", "--max-latency-ms", "5")
    assert (searches[0][0].cost, searches[0][0].most) == ("latency_ms", 5.0)


def test_table_and_next_step_are_shown(searches, tones, tmp_path, capsys):
    out = tmp_path / "s"
    with pytest.raises(SystemExit) as left:
        main(["tune", "--dataset", str(tones), "--out", str(out), "--budget", "latency", "-q"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "3 trials; none beats these" in shown
    assert "1 *" in shown
    assert "trial 1: 95.0% on validation at 2.00 MMAC" in shown
    command = f"xmoe train --dataset {tones} --budget latency --settings {out}/settings.json"
    assert f"next: {command} --out RUN" in shown


def test_train_takes_the_settings_and_an_option_replaces_one(
    searches, requests, run_json, tones, tmp_path
):
    out = tmp_path / "s"
    run_json("tune", "--dataset", tones, "--out", out)
    file = out / "settings.json"
    train = ("train", "--dataset", tones, "--out", tmp_path / "run", "--local", "--settings", file)
    run_json(*train, "--k-max", "1")
    (request,) = requests
    assert request.train.learning_rate == 0.002
    given = request.overrides.model_dump(exclude_none=True)
    assert given == {
        "frontend": "stft",
        "num_bins": 32,
        "experts": 4,
        "k_max": 1,
        "window_frames": 2,
    }


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--frontends", "mel"), "'mel'"),
        (("--frontends", ""), "known are"),
        (("--max-mmac", "1", "--max-latency-ms", "1"), "not both"),
        (("--max-mmac", "0"), "--max-mmac"),
        (("--trials", "0"), "--trials"),
    ],
)
def test_what_cannot_be_searched_is_refused(searches, run_json, tones, tmp_path, options, word):
    code, fields = run_json("tune", "--dataset", tones, "--out", tmp_path / "s", *options)
    assert code == 2
    assert word in fields["what"]
    assert searches == []


def test_an_old_search_needs_resume_and_the_same_recordings(searches, run_json, tones, tmp_path):
    options = ("tune", "--dataset", tones, "--out", tmp_path / "s")
    assert run_json(*options)[0] == 0
    code, fields = run_json(*options)
    assert code == 2
    assert "--resume" in fields["mend"]
    assert run_json(*options, "--resume", "--trials", "20")[0] == 0
    (tmp_path / "s" / "recordings.txt").write_text("others\n")
    code, fields = run_json(*options, "--resume")
    assert code == 2
    assert "recordings are not those" in fields["what"]


def test_without_optuna_nothing_is_begun(run_json, monkeypatch, tones, tmp_path):
    monkeypatch.setattr(suggest, "find_spec", lambda name: None)
    code, fields = run_json("tune", "--dataset", tones, "--out", tmp_path / "s")
    assert code == 1
    assert "xmoe[tune]" in fields["mend"]
    assert not (tmp_path / "s").exists()


def test_ctrl_c_shows_the_command_that_goes_on(searches, monkeypatch, tones, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "search", interrupt)
    out = tmp_path / "a search"
    options = ["--dataset", str(tones), "--out", str(out), "--epochs", "2", "--frontends", "stft"]
    with pytest.raises(SystemExit) as left:
        main(["tune", *options, "-q"])
    assert left.value.code == 130
    said = capsys.readouterr().err
    command = said[said.index("xmoe tune") :].splitlines()[0]
    assert shlex.split(command) == ["xmoe", "tune", *options, "--resume"]


def wait_for_trial(folder, process, seconds=300):
    """Wait until one trial is written down."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if folder.trials.is_file():
            return
        time.sleep(0.1)
    pytest.fail(f"no trial in {seconds} s; exit code {process.poll()}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_interrupted_search_goes_on_and_its_choice_can_be_trained(tones, tmp_path):
    """One processor, so that trials follow each other; Ctrl-C comes when the first is done."""
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'xmoe[tune]'")
    folder = SearchFolder(tmp_path / "search")
    options = ["--dataset", str(tones), "--out", str(folder.path), "--trials", "3", "--epochs", "2"]
    code = "import ray, sys; ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
    code += "from xmoe.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "tune", *options, "--batch-size", "12", "--json", "-q"]
    environment = os.environ | {"RAY_DATA_DISABLE_PROGRESS_BARS": "1"}

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        wait_for_trial(folder, process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in json.loads(said)["mend"]
    before = folder.read_results()
    assert 1 <= len(before) < 3

    done = subprocess.run(
        [*command, "--resume"], env=environment, stdout=subprocess.PIPE, check=True, timeout=600
    )
    fields = json.loads(done.stdout)
    after = folder.read_results()
    assert after[: len(before)] == before
    assert len(after) == len({one.number for one in after}) == 3
    assert fields["chosen"]["number"] in {one.number for one in after}
    assert not folder.work.exists()

    settings = folder.path / "settings.json"
    run = tmp_path / "run"
    trained = ["--dataset", str(tones), "--out", str(run), "--settings", str(settings)]
    with pytest.raises(SystemExit) as left:
        main(["train", *trained, "--local", "--epochs", "1", "--device", "cpu", "-q"])
    assert left.value.code == 0
    config, tuned = RunFolder(run).read_config(), read_settings(settings)
    assert config.train.learning_rate == tuned.learning_rate
    assert config.spectro.frontend == tuned.overrides.frontend
    assert len(config.model.experts) == tuned.overrides.experts
