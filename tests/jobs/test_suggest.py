"""Optuna suggests for two aims; an interrupted search takes up what is written down, no more."""

import json
import time

import pytest

from xmoe.base.config import SpectroConfig, TrainConfig
from xmoe.base.errors import RunFolderError, XmoeError
from xmoe.jobs import suggest
from xmoe.policy.records import Policy
from xmoe.tuning.pareto import TuneResult
from xmoe.tuning.search import SearchFolder, SearchRequest
from xmoe.tuning.space import read_candidate

pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'xmoe[tune]'")

# Ray and Optuna warn of their own settings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

OWN = {
    "frontend": "logmel",
    "num_bins": 64,
    "num_experts": 3,
    "k_max": 2,
    "window_frames": 4,
    "learning_rate": 0.004,
}


@pytest.fixture
def policy():
    return Policy(
        spectro=SpectroConfig(),
        experts=("broadband", "low", "high", "mid"),
        masked_experts=("mid",),
        k_max=2,
        window_frames=4,
        choices=(),
    )


@pytest.fixture
def folder(tmp_path):
    return SearchFolder(tmp_path / "search")


@pytest.fixture
def asked(tmp_path):
    return SearchRequest(dataset=str(tmp_path), train=TrainConfig(seed=5))


def result_of(values, accuracy=0.8, mmac=2.0):
    return TuneResult(
        number=values["number"],
        candidate=read_candidate(values),
        accuracy=accuracy,
        standard_error=0.01,
        mean_k=1.0,
        mmac=mmac,
        latency_ms=3.0,
        epochs=3,
        seconds=1.0,
    )


def states(folder):
    import optuna

    study = optuna.load_study(study_name=suggest.STUDY, storage=suggest.open_storage(folder))
    return [(trial.state.name, trial.values) for trial in study.get_trials()]


def test_the_policys_own_choice_comes_first(folder, asked, policy):
    first, second = map(suggest.make_searcher(folder, asked, policy).suggest, ("a", "b"))
    assert first == {**OWN, "number": 0}
    assert second["number"] == 1
    assert read_candidate(second).num_experts <= 3


def test_outcomes_are_written_as_json_lines(folder, asked, policy):
    searcher = suggest.make_searcher(folder, asked, policy)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"goal": 0.9, "cost": 2.0})
    searcher.suggest("b")
    searcher.on_trial_complete("b", error=True)
    assert states(folder) == [("COMPLETE", [0.9, 2.0]), ("FAIL", None)]
    assert all(json.loads(line) for line in folder.journal.read_text().splitlines())


def test_a_trial_that_was_cut_short_is_suggested_again(folder, asked, policy):
    before = suggest.make_searcher(folder, asked, policy)
    cut = [before.suggest(name) for name in ("a", "b")]
    after = suggest.make_searcher(folder, asked, policy)
    again = [after.suggest(name) for name in ("c", "d")]
    assert [{**values, "number": 0} for values in again] == [{**v, "number": 0} for v in cut]
    assert [values["number"] for values in again] == [2, 3]
    assert [state for state, _ in states(folder)] == ["FAIL", "FAIL", "RUNNING", "RUNNING"]


def test_a_trial_that_is_in_the_list_counts_though_optuna_had_not_heard(folder, asked, policy):
    values = suggest.make_searcher(folder, asked, policy).suggest("a")
    folder.add_result(result_of(values))
    over = asked.model_copy(update={"most": 1.0})
    after = suggest.make_searcher(folder, over, policy)
    assert states(folder) == [("COMPLETE", [-1.0, 2.0])]
    assert after.suggest("b")["number"] == 1


def test_a_search_that_was_resumed_before_its_first_trial_begins_with_the_policy(
    folder, asked, policy
):
    suggest.make_searcher(folder, asked, policy)
    assert suggest.make_searcher(folder, asked, policy).suggest("a") == {**OWN, "number": 0}


def test_what_a_kill_left_of_a_line_and_of_a_lock_is_taken_away(folder, asked, policy):
    suggest.make_searcher(folder, asked, policy).suggest("a")
    whole = folder.journal.read_bytes()
    folder.journal.write_bytes(whole + b'{"op_code":5,"work')
    lock = folder.path / "study.journal.lock"
    lock.symlink_to(folder.journal)
    began = time.monotonic()
    assert suggest.make_searcher(folder, asked, policy).suggest("b")["number"] == 1
    assert time.monotonic() - began < 20
    assert not lock.is_symlink()
    assert suggest.make_searcher(folder, asked, policy).suggest("c")["number"] == 2


def test_a_list_without_its_log_is_refused(folder, asked, policy):
    folder.add_result(result_of({**OWN, "number": 4}))
    suggest.make_searcher(folder, asked, policy)
    with pytest.raises(RunFolderError, match=r"study\.journal does not know"):
        suggest.make_searcher(folder, asked, policy)


def test_the_search_learns_what_is_good(folder, asked, policy):
    """Only three experts are worth anything: the later half must ask for them more often."""
    searcher = suggest.make_searcher(folder, asked, policy)
    seen = []
    for index in range(40):
        values = searcher.suggest(str(index))
        seen.append(values["num_experts"])
        worth = 0.9 if values["num_experts"] == 3 else 0.1
        searcher.on_trial_complete(str(index), {"goal": worth, "cost": 1.0})
    assert sum(count == 3 for count in seen[20:]) >= 13


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(suggest, "find_spec", lambda name: None)
    with pytest.raises(XmoeError, match="Optuna is not installed") as raised:
        suggest.check_installed()
    assert "xmoe[tune]" in (raised.value.mend or "")
