"""A search space -> trials on Ray Tune, as many side by side as there are processors or GPUs.

Each finished trial is a line of ``trials.jsonl`` before anything else hears of it; from these and
from Optuna's log (``xmoe.jobs.suggest``) a search goes on after any interruption. Ray Tune's own
state, which is pickled, is written to a folder of one run and never read. A trial that lags is
stopped early (``xmoe.tuning.halving``).
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmoe.base.errors import XmoeError
from xmoe.base.progress import Progress, silent
from xmoe.jobs.interrupt import Interrupt, hold_interrupt
from xmoe.jobs.session import count_resource, ray_session
from xmoe.jobs.suggest import check_installed, make_searcher
from xmoe.policy.records import Policy
from xmoe.training.batches import steps_per_epoch
from xmoe.training.loop import MIN_STEPS
from xmoe.tuning.halving import Halving
from xmoe.tuning.pareto import TuneResult, goal
from xmoe.tuning.search import SearchFolder, SearchRequest
from xmoe.tuning.space import read_candidate
from xmoe.tuning.trial import Figures, TrialSetting, run_trial

if TYPE_CHECKING:
    from ray import tune
    from ray.tune.schedulers import TrialScheduler

SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def search(
    folder: SearchFolder,
    request: SearchRequest,
    setting: TrialSetting,
    policy: Policy,
    *,
    trials: int,
    progress: Progress = silent,
) -> list[TuneResult]:
    """Run trials until ``trials`` are done; returns all of them, those of before included.

    Raises XmoeError where Optuna is missing, or where no trial came to an end.
    """
    check_installed()
    done = folder.read_results()
    recorder = Progressed(folder, progress, total=max(trials, len(done)), done=len(done))
    if len(done) < trials:
        progress("tune", len(done), trials)
        with ray_session(), quiet_tune(), hold_interrupt() as interrupt:
            callback = make_callback(recorder, interrupt)
            make_tuner(folder, request, setting, policy, callback).fit()
    if not folder.read_results():
        raise XmoeError(
            f"every trial failed: {recorder.failure}",
            where=str(folder.path),
            mend="try one candidate by hand: xmoe train with --frontend, --num-bins, --experts",
        )
    shutil.rmtree(folder.work, ignore_errors=True)
    return folder.read_results()


class Progressed:
    """Writes trials down as they end, and says so."""

    def __init__(
        self, folder: SearchFolder, progress: Progress, *, total: int, done: int = 0
    ) -> None:
        self._folder, self._progress = folder, progress
        self.total, self.done = total, done
        self.failure = ""

    def __getstate__(self) -> dict[str, Any]:
        """Leave all out: Ray Tune pickles callbacks for a restart of its own, which never is."""
        return {}

    def note(self, result: TuneResult) -> None:
        """Write a trial down that ran to its end or was stopped early."""
        self._folder.add_result(result)
        self._tell(describe(result))

    def note_failure(self, number: int, error: str) -> None:
        """Say that a trial failed; the search goes on, and a later one may make up for it."""
        self.failure = error
        self._tell(f"trial {number} failed: {error}")

    def _tell(self, note: str) -> None:
        self.done += 1
        self._progress("tune", self.done, self.total, note)


def make_tuner(
    folder: SearchFolder,
    request: SearchRequest,
    setting: TrialSetting,
    policy: Policy,
    callback: Any,
) -> tune.Tuner:
    """Return Ray's tuner for the trials that are missing."""
    from ray import tune

    gpus = count_resource("GPU") if setting.train.device != "cpu" else 0
    trainable = tune.with_resources(
        tune.with_parameters(try_candidate, setting=setting, request=request),
        {"cpu": 1, "gpu": min(gpus, 1)},
    )
    state = folder.work.resolve() / "ray"
    shutil.rmtree(state, ignore_errors=True)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            num_samples=callback.recorder.total - callback.recorder.done,
            search_alg=make_searcher(folder, request, policy),
            scheduler=make_scheduler(count_epochs(setting)),
            max_concurrent_trials=gpus or max(1, count_resource("CPU")),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(state),
            callbacks=[callback],
            verbose=0,
        ),
    )


def try_candidate(values: dict[str, Any], *, setting: TrialSetting, request: SearchRequest) -> None:
    """Run one trial in a worker of Ray Tune, reporting after every validation and at the end."""
    import torch
    from ray import tune

    torch.set_num_threads(1)

    def report(figures: Figures | TuneResult, **more: Any) -> None:
        cost = figures.mmac if request.cost == "mmac" else figures.latency_ms
        worth = goal(figures.accuracy, cost, request.most)
        tune.report(
            {
                "goal": worth,
                "cost": cost,
                "accuracy": figures.accuracy,
                "mmac": figures.mmac,
                "latency_ms": figures.latency_ms,
                "ended": isinstance(figures, TuneResult),
                **more,
            }
        )

    result = run_trial(
        setting,
        read_candidate(values),
        number=int(values["number"]),
        on_epoch=lambda figures: report(figures, epoch=figures.epoch),
    )
    report(result, epoch=result.epochs, result=result.model_dump(mode="json"))


def make_scheduler(epochs: int) -> TrialScheduler:
    """Return what stops trials that lag, and ends those that have told their result."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    halving = Halving(epochs)

    class Scheduler(FIFOScheduler):
        """Ray's order of trials with our halving."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            """Return whether a trial goes on after a report."""
            point = float(result["accuracy"]), float(result["cost"])
            lags = not halving.goes_on(trial.trial_id, int(result["epoch"]), point)
            over = bool(result["ended"]) or lags
            return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)

    return Scheduler()  # type: ignore[no-untyped-call]


def make_callback(recorder: Progressed, interrupt: Interrupt) -> Any:
    """Return what hears of every report and writes the last one of a trial down.

    Ray Tune calls it before Optuna hears of the end, so that no finished trial can get lost, and
    between two steps, where an interruption does no harm.
    """
    from ray import tune

    class Recorder(tune.Callback):
        """Passes the ends of trials on."""

        def __init__(self) -> None:
            self.recorder = recorder

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            """Let an interruption strike."""
            interrupt.strike()

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            """Note a report after which its trial is over."""
            if result.get("done"):
                recorder.note(read_report(trial.config, result))

        def on_trial_error(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            """Note a trial that failed."""
            recorder.note_failure(int(trial.config["number"]), read_error(trial.error_file))

    return Recorder()


def read_report(config: Mapping[str, Any], last: Mapping[str, Any]) -> TuneResult:
    """Return what a trial's last report says: its result, or how far it came."""
    if "result" in last:
        return TuneResult.model_validate(last["result"])
    candidate = read_candidate(config)
    return TuneResult(
        number=int(config["number"]),
        candidate=candidate,
        accuracy=float(last["accuracy"]),
        standard_error=0.0,
        mean_k=float(candidate.k_max),
        mmac=float(last["mmac"]),
        latency_ms=float(last["latency_ms"]),
        epochs=int(last["epoch"]),
        seconds=round(float(last["time_total_s"]), 2),
        finished=False,
    )


def read_error(path: str | None) -> str:
    """Return the last line of the trace that Ray Tune wrote down for a trial."""
    if path is None or not Path(path).is_file():
        return "no reason was given"
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no reason was given")


def describe(result: TuneResult) -> str:
    """Return one line on a trial."""
    one = result.candidate
    end = "" if result.finished else f", stopped after epoch {result.epochs}"
    return (
        f"trial {result.number}: {one.frontend} {one.num_bins}, {one.num_experts} experts, "
        f"K {one.k_max}: {result.accuracy:.1%} at {result.mmac:.2f} MMAC{end}"
    )


def count_epochs(setting: TrialSetting) -> int:
    """Return how many epochs a trial has: as many as ``xmoe train`` would give it."""
    train = setting.train
    clips = len(setting.dataset.split("train"))
    return train.epochs or -(-MIN_STEPS // steps_per_epoch(clips, train.batch_size))


@contextmanager
def quiet_tune() -> Iterator[None]:
    """Let Ctrl-C reach this process as itself, and keep Ray Tune's own tables off the screen."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
