"""What was tried so far -> what to try next: Optuna's search for two aims, behind Ray Tune.

Optuna writes every suggestion and outcome to its own log (``JournalStorage``: JSON lines, no
pickle). After an interruption the log and the list of finished trials are brought together: a trial
that is in the list counts, one that was cut short is suggested again.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from xmoe.base.errors import RunFolderError, XmoeError
from xmoe.base.files import write_bytes
from xmoe.policy.records import Policy
from xmoe.tuning.pareto import TuneResult, goal
from xmoe.tuning.search import SearchFolder, SearchRequest
from xmoe.tuning.space import SearchSpace, point_of

STUDY = "xmoe"
METRICS = ["goal", "cost"]
MODES = ["max", "min"]
STARTUP = 5


def check_installed() -> None:
    """Raise XmoeError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise XmoeError("Optuna is not installed", mend="pip install 'xmoe[tune]'")


def make_searcher(folder: SearchFolder, request: SearchRequest, policy: Policy) -> Any:
    """Return Optuna's sampler behind Ray Tune's interface, with the log of before if there is one.

    The first suggestion of a new search is the policy's own choice. Raises RunFolderError where
    the log is not the one of the finished trials.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.path.mkdir(parents=True, exist_ok=True)
    storage = open_storage(folder)
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    before = len(study.get_trials(deepcopy=False))
    if before:
        take_up(study, folder, request)
    else:
        study.enqueue_trial(point_of(policy, request.train.learning_rate))
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, multivariate=True, seed=request.train.seed + before
    )
    return OptunaSearch(
        Suggestion(request.space.fit_to(policy)),
        metric=METRICS,
        mode=MODES,
        sampler=sampler,
        study_name=STUDY,
        storage=storage,
    )


def open_storage(folder: SearchFolder) -> Any:
    """Return Optuna's log of a search; what a kill left of a line or of a lock is taken away.

    Optuna would wait for the lock, and would append to the half of a line.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder.journal.with_name(f"{folder.journal.name}.lock").unlink(missing_ok=True)
    if folder.journal.is_file():
        written = folder.journal.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:
            write_bytes(folder.journal, whole)
    return JournalStorage(JournalFileBackend(str(folder.journal)))


class Suggestion:
    """A space as Ray Tune asks it: values, and beside them the number of the trial in the log."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Ask an Optuna trial for every value; return its number."""
        self._space.suggest(trial)
        return {"number": trial.number}


def take_up(study: Any, folder: SearchFolder, request: SearchRequest) -> None:
    """Close the trials that an interruption left open; those not in the list are queued again."""
    from optuna.trial import TrialState

    done = {result.number: result for result in folder.read_results()}
    trials = study.get_trials(deepcopy=False)
    if set(done) - {trial.number for trial in trials}:
        raise RunFolderError(
            "trials.jsonl has trials that study.journal does not know",
            where=str(folder.path),
            mend="put the file back that belongs here, or search into another folder",
        )
    for trial in trials:
        if trial.state is not TrialState.RUNNING:
            continue
        if trial.number in done:
            study.tell(trial.number, values_of(done[trial.number], request))
        else:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.system_attrs.get("fixed_params", trial.params))


def values_of(result: TuneResult, request: SearchRequest) -> Sequence[float]:
    """Return what the search maximises and minimises of a trial."""
    cost = result.cost(request.cost)
    return goal(result.accuracy, cost, request.most), cost
