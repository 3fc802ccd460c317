"""From a folder to a run folder: what is refused, what is left out, what goes on, what survives.

The last test kills training at random moments.
"""

import json
import multiprocessing
import random
import time

import pytest

from xmoe.audio.dataset import load_dataset
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.pipeline import fit as module
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.pipeline.fit import build_stores, fit_run
from xmoe.predict.samples import read_samples
from xmoe.profile.assemble import profile_dataset
from xmoe.run.folder import RunFolder
from xmoe.training.session import TrainingJob, read_history, train_here

RATE_HZ = 8000


def refuse_to_train(job, progress):
    raise AssertionError("training was begun")


def weights_of(run, which="best"):
    """Return the bytes of every weights file that a pointer names."""
    files = RunFolder(run).checkpoint_folder(which).glob("*.safetensors")
    return {path.name: path.read_bytes() for path in files}


def test_folder_with_a_run_is_refused(fitted, tones, request_for):
    with pytest.raises(ConfigError, match="already holds a run") as raised:
        fit_run(request_for(tones, fitted.run_dir, engine=refuse_to_train))
    assert "--resume" in raised.value.mend


def test_folder_with_figures_alone_is_refused_too(tones, request_for, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a run"):
        fit_run(request_for(tones, tmp_path, engine=refuse_to_train))


def test_samples_are_kept_unless_the_run_is_to_hold_none(copied, tones, request_for):
    samples = read_samples(RunFolder(copied))
    assert {sample.labels for sample in samples} == {("low",), ("top",)}
    assert len(samples) == 6
    fit_run(request_for(tones, copied, resume=True, samples=False))
    assert read_samples(RunFolder(copied)) == ()


def test_finished_run_that_resumes_stays_as_it_is(copied, fitted, tones, request_for):
    fit_run(request_for(tones, copied, resume=True))
    assert weights_of(copied) == weights_of(fitted.run_dir)
    assert weights_of(copied, "last") == weights_of(fitted.run_dir, "last")
    figures = [json.loads((run / "metrics.json").read_text()) for run in (copied, fitted.run_dir)]
    assert figures[0] == figures[1]
    assert (copied / "run_config.json").read_bytes() == (
        fitted.run_dir / "run_config.json"
    ).read_bytes()
    assert not (copied / "cache").exists()


def test_another_device_and_more_workers_may_go_on(copied, tones, request_for):
    jobs = []
    train = {"device": "auto", "num_workers": 3}
    fit_run(
        request_for(
            tones, copied, train=train, resume=True, engine=lambda job, progress: jobs.append(job)
        )
    )
    assert (jobs[0].config.train.device, jobs[0].config.train.num_workers) == ("auto", 3)


def test_ctrl_c_leaves_a_run_that_answers_and_goes_on(fitted, tones, request_for, tmp_path):
    def interrupt(stage, done, total=None, note=""):
        if (stage, done) == ("train", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_run(request_for(tones, tmp_path), progress=interrupt)
    stopped = MoEAudioClassifier.load(tmp_path)
    answer = stopped.predict(tones / "00.wav")
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert len(read_history(RunFolder(tmp_path))) == 2
    fit_run(request_for(tones, tmp_path, resume=True))
    assert weights_of(tmp_path) == weights_of(fitted.run_dir)
    figures = [json.loads((run / "metrics.json").read_text()) for run in (tmp_path, fitted.run_dir)]
    for one in figures:
        del one["train_minutes"]
    assert figures[0] == figures[1]


def test_engine_gets_the_job_and_profiler_the_data(tones, request_for, tmp_path):
    jobs, profiled = [], []

    def engine(job, progress):
        jobs.append(job)
        train_here(job, progress)

    def profiler(dataset, *, workers, progress):
        profiled.append(len(dataset.examples))
        return profile_dataset(dataset, workers=workers, progress=progress)

    request = request_for(tones, tmp_path, train={"epochs": 1}, engine=engine, profiler=profiler)
    folder = fit_run(request)
    config = folder.read_config()
    assert profiled == [60]
    plain = config.model_copy(update={"routing": jobs[0].config.routing})
    assert jobs == [TrainingJob(tmp_path, plain, tmp_path / "cache", resume=False)]


def test_split_of_bad_recordings_alone_is_refused(write_tones, request_for, tmp_path):
    root = write_tones(tmp_path / "set", clips=20)
    for index in (3, 8, 13, 18):
        (root / f"{index:02d}.wav").write_bytes(b"garbage" * 100)
    request = request_for(root, tmp_path / "run", engine=refuse_to_train)
    with pytest.raises(DatasetError, match="the val split has no readable recording"):
        fit_run(request)


def test_stores_that_are_there_are_used_again(fitted, tones, request_for, tmp_path, monkeypatch):
    dataset, where = load_dataset(tones), tmp_path / "stores"
    spectro = fitted.predictor.config.spectro
    built = []
    original = module.build_store

    def spy(path, *args, **kwargs):
        built.append(path.name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(module, "build_store", spy)
    first = build_stores(where, dataset, spectro)
    again = build_stores(where, dataset, spectro)
    assert built == ["train", "val", "test"]
    (where / "val.npy").unlink()
    build_stores(where, dataset, spectro)
    assert built == ["train", "val", "test", "val"]
    assert [len(store) for store in again.values()] == [len(s) for s in first.values()]


def test_several_labels_train_from_end_to_end(write_tones, small, tmp_path):
    kinds = (("low",), ("top",), ("low", "top"))
    root = write_tones(tmp_path / "set", labels=lambda index: kinds[index // 5 % 3])
    model = MoEAudioClassifier(device="cpu")
    model.fit(root, out_dir=tmp_path / "run", **small | {"epochs": 10})
    assert model.task == "multi_label"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["map"] >= 0.9
    assert metrics["accuracy"] > metrics["majority_accuracy"]
    answer = model.predict(root / "14.wav")
    assert set(answer.labels) == {"low", "top"}
    assert model.evaluate(root)["accuracy"] == metrics["accuracy"]
    assert (tmp_path / "run" / "confusion.png").stat().st_size > 5000


def check_survivor(run, samples):
    """Assert that whatever a killed run left behind is whole; return whether it answers."""
    folder = RunFolder(run)
    for path in run.rglob("*.json"):
        if not any(part.startswith(".") for part in path.relative_to(run).parts):
            json.loads(path.read_text())
    rows = read_history(folder)
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    pointers = [which for which in ("best", "last") if folder.exists(which)]
    for which in pointers:
        folder.load_state(which)
        listed = json.loads((folder.checkpoint_folder(which) / "manifest.json").read_text())
        parts = [name for name in listed["sha256"] if name.endswith(".safetensors")]
        assert len(parts) == 6
        for name in parts:
            folder.load_tensors(name.removesuffix(".safetensors"), which)
    if "last" not in pointers:
        return False
    assert pointers == ["best", "last"]
    answer = MoEAudioClassifier.load(run, device="cpu").predict(samples, RATE_HZ)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    return True


@pytest.fixture(scope="module")
def fork_server():
    """Processes that begin with everything imported and nothing done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["xmoe.pipeline.classifier", "torch.utils.tensorboard", "torch._dynamo"]
    )
    run_to_end(context.Process(target=time.sleep, args=(0,)))
    return context


def run_to_end(process):
    """Run a process and return how long it took in seconds."""
    began = time.monotonic()
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


@pytest.mark.timeout(600)  # a dozen trainings one after the other
def test_ten_kills_at_random_moments_lose_nothing(
    fitted, tones, request_for, fork_server, tone, tmp_path
):
    def start(run):
        request = request_for(tones, run, resume=True)
        return fork_server.Process(target=fit_run, args=(request,))

    expected, samples = weights_of(fitted.run_dir), tone(0, "low")
    length_s = run_to_end(start(tmp_path / "undisturbed"))
    assert weights_of(tmp_path / "undisturbed") == expected
    draw = random.Random(0)
    kills, answered, runs = 0, 0, 0
    while kills < 10:
        run = tmp_path / f"run{runs}"
        process, fresh, began = start(run), not run.exists(), time.monotonic()
        process.start()
        process.join(draw.uniform(0, length_s))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            answered += run.exists() and check_survivor(run, samples)
        else:  # it was done before its time; the next one begins anew
            assert process.exitcode == 0
            assert weights_of(run) == expected
            runs += 1
            length_s = min(length_s, time.monotonic() - began) if fresh else length_s
    run_to_end(start(run))
    assert weights_of(run) == expected
    assert answered >= 1
