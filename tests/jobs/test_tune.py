"""What a worker reports, who stops trials, what is written down, and when a search is over."""

import os
import threading
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest

from xmoe.base.config import TrainConfig
from xmoe.base.errors import XmoeError
from xmoe.base.progress import silent
from xmoe.jobs import tune as jobs
from xmoe.jobs.interrupt import Interrupt
from xmoe.jobs.tune import Progressed, read_error, read_report, search
from xmoe.tuning.pareto import TuneResult
from xmoe.tuning.search import SearchFolder, SearchRequest
from xmoe.tuning.space import read_candidate
from xmoe.tuning.trial import Figures

# Ray warns of its own settings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

VALUES = {
    "number": 3,
    "frontend": "logmel",
    "num_bins": 64,
    "num_experts": 2,
    "k_max": 4,
    "window_frames": 4,
    "learning_rate": 0.004,
}


def make_result(number=3, accuracy=0.9):
    return TuneResult(
        number=number,
        candidate=read_candidate(VALUES),
        accuracy=accuracy,
        standard_error=0.01,
        mean_k=1.0,
        mmac=2.0,
        latency_ms=3.0,
        epochs=2,
        seconds=1.0,
    )


@pytest.fixture
def folder(tmp_path):
    return SearchFolder(tmp_path / "search")


@pytest.fixture
def asked(tmp_path):
    return SearchRequest(dataset=str(tmp_path))


@pytest.fixture
def reports(monkeypatch):
    """What a worker tells Ray Tune."""
    from ray import tune

    seen = []
    monkeypatch.setattr(tune, "report", seen.append)
    return seen


def fake_trial(setting, candidate, *, number, on_epoch):
    on_epoch(Figures(1, 0.5, 4.0, 6.0))
    on_epoch(Figures(2, 0.7, 4.0, 6.0))
    return make_result(number)


def test_a_worker_reports_epochs_at_their_most_and_the_result_at_its_own_cost(
    reports, asked, monkeypatch
):
    monkeypatch.setattr(jobs, "run_trial", fake_trial)
    jobs.try_candidate(dict(VALUES), setting=None, request=asked)
    figures = [(row["epoch"], row["accuracy"], row["cost"], row["ended"]) for row in reports]
    assert figures == [(1, 0.5, 4.0, False), (2, 0.7, 4.0, False), (2, 0.9, 2.0, True)]
    assert TuneResult.model_validate(reports[-1]["result"]) == make_result()


def test_cost_is_time_where_time_is_asked_for_and_the_budget_counts(reports, asked, monkeypatch):
    monkeypatch.setattr(jobs, "run_trial", fake_trial)
    timed = asked.model_copy(update={"cost": "latency_ms", "most": 4.0})
    jobs.try_candidate(dict(VALUES), setting=None, request=timed)
    assert [(row["goal"], row["cost"]) for row in reports] == [(-0.5, 6.0), (-0.5, 6.0), (0.9, 3.0)]


def test_what_lags_is_stopped_and_what_has_ended_too():
    scheduler = jobs.make_scheduler(2)

    def report(name, epoch, accuracy, cost, ended=False):
        figures = {"epoch": epoch, "accuracy": accuracy, "cost": cost, "ended": ended}
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), figures)

    assert report("a", 1, 0.9, 2.0) == "CONTINUE"
    assert report("b", 1, 0.8, 2.0) == "STOP"
    assert report("c", 1, 0.5, 1.0) == "CONTINUE"
    assert report("a", 2, 0.9, 2.0) == "CONTINUE"
    assert report("a", 2, 0.9, 1.5, ended=True) == "STOP"


def test_only_the_last_report_of_a_trial_is_written_down(folder):
    told = []
    recorder = Progressed(folder, lambda *call: told.append(call), total=3)
    callback = jobs.make_callback(recorder, Interrupt())
    trial = SimpleNamespace(config=VALUES, error_file=None)
    early = {"epoch": 1, "accuracy": 0.5, "mmac": 4.0, "latency_ms": 6.0, "time_total_s": 1.234}
    callback.on_trial_result(1, [], trial, early)
    assert folder.read_results() == []
    callback.on_trial_result(1, [], trial, {**early, "done": True})
    (stopped,) = folder.read_results()
    assert (stopped.finished, stopped.epochs, stopped.mean_k, stopped.seconds) == (
        False,
        1,
        2,
        1.23,
    )
    last = {"result": make_result(4).model_dump(mode="json"), "done": True}
    callback.on_trial_result(1, [], trial, last)
    callback.on_trial_error(1, [], trial)
    assert [one.number for one in folder.read_results()] == [3, 4]
    assert [call[:3] for call in told] == [("tune", done, 3) for done in (1, 2, 3)]
    assert "stopped after epoch 1" in told[0][3]
    assert "trial 3 failed: no reason was given" in told[2][3]


def test_progress_that_cannot_be_pickled_does_not_stop_ray_tune(folder):
    from ray import cloudpickle

    bars = partial(silent, note=threading.RLock())
    with pytest.raises(TypeError, match="pickle"):
        cloudpickle.dumps(bars)
    cloudpickle.dumps(jobs.make_callback(Progressed(folder, bars, total=1), Interrupt()))


def test_ctrl_c_strikes_between_two_steps_of_ray_tune(folder):
    interrupt = Interrupt()
    callback = jobs.make_callback(Progressed(folder, silent, total=1), interrupt)
    callback.on_step_begin(1, [])
    interrupt.note(2, None)
    with pytest.raises(KeyboardInterrupt):
        callback.on_step_begin(2, [])


def test_a_report_of_the_result_is_the_result():
    assert read_report({}, {"result": make_result().model_dump(mode="json")}) == make_result()


def test_the_reason_of_a_failure_is_the_last_line_of_its_trace(tmp_path):
    trace = tmp_path / "error.txt"
    trace.write_text("Traceback\n  File x\nValueError: too few clips\n\n")
    assert read_error(str(trace)) == "ValueError: too few clips"
    assert read_error(str(tmp_path / "none")) == read_error(None) == "no reason was given"


class FakeTuner:
    """Notes trials without Ray."""

    def __init__(self, recorder, numbers):
        self.recorder, self.numbers = recorder, numbers

    def fit(self):
        for number in self.numbers[: self.recorder.total - self.recorder.done]:
            if number is None:
                self.recorder.note_failure(0, "ValueError: too few clips")
            else:
                self.recorder.note(make_result(number))


@pytest.fixture
def run(folder, asked, monkeypatch):
    """Run a search whose tuner has the trials that are named."""
    monkeypatch.setattr(jobs, "ray_session", nullcontext)

    def call(numbers, trials):
        def make(folder, request, setting, policy, callback):
            return FakeTuner(callback.recorder, numbers)

        monkeypatch.setattr(jobs, "make_tuner", make)
        return [one.number for one in search(folder, asked, None, None, trials=trials)]

    return call


def test_finished_trials_are_not_done_again(run, folder):
    folder.work.mkdir(parents=True)
    assert run([0, 1], trials=2) == [0, 1]
    assert not folder.work.exists()
    assert run([2, 3, 4], trials=3) == [0, 1, 2]
    assert run([9], trials=2) == [0, 1, 2]


def test_a_failed_trial_is_left_out_and_made_up_for_later(run):
    assert run([0, None], trials=2) == [0]
    assert run([5], trials=2) == [0, 5]


def test_a_search_without_any_result_says_why(run, folder):
    with pytest.raises(XmoeError, match="every trial failed: ValueError: too few clips"):
        run([None, None], trials=2)


def test_trials_have_as_many_epochs_as_train_would_give(folder):
    def count(clips, **train):
        data = SimpleNamespace(split=lambda name: [None] * clips)
        return jobs.count_epochs(SimpleNamespace(dataset=data, train=TrainConfig(**train)))

    assert count(2400) == 14
    assert count(2400, epochs=3) == 3


def test_ray_tunes_handler_of_ctrl_c_is_off_inside_alone(monkeypatch):
    name = "TUNE_DISABLE_SIGINT_HANDLER"
    monkeypatch.delenv(name, raising=False)
    with jobs.quiet_tune():
        assert os.environ[name] == "1"
    assert name not in os.environ
    monkeypatch.setenv(name, "0")
    with pytest.raises(KeyboardInterrupt), jobs.quiet_tune():
        raise KeyboardInterrupt
    assert os.environ[name] == "0"
