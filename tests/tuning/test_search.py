"""The folder of a search: begun once, gone on with by the same alone, readable by ``train``."""

import json

import pytest

from xmoe.base.config import TrainConfig
from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.tuning.search import (
    SearchFolder,
    SearchRequest,
    describe_choice,
    read_settings,
)


@pytest.fixture
def folder(tmp_path):
    return SearchFolder(tmp_path / "search")


@pytest.fixture
def request_(tmp_path):
    return SearchRequest(dataset=str(tmp_path), train=TrainConfig(epochs=3))


def test_a_new_search_notes_what_was_asked(folder, request_):
    assert folder.begin(request_, resume=False) == []
    written = json.loads((folder.path / "search.json").read_text())
    assert SearchRequest.model_validate(written) == request_


def test_an_old_one_is_not_overwritten(folder, request_):
    folder.begin(request_, resume=False)
    with pytest.raises(ConfigError, match="holds a search already") as raised:
        folder.begin(request_, resume=False)
    assert "--resume" in (raised.value.mend or "")


def test_it_is_gone_on_with_by_the_same_settings_alone(folder, request_, make_result):
    folder.begin(request_, resume=True)
    folder.add_result(make_result(0, 0.5, 1.0))
    assert [one.number for one in folder.begin(request_, resume=True)] == [0]
    other = request_.model_copy(update={"most": 3.0, "train": TrainConfig(epochs=4)})
    with pytest.raises(ConfigError, match="other settings for: most, train"):
        folder.begin(other, resume=True)


def test_one_process_works_in_a_folder_at_a_time(folder):
    other = SearchFolder(folder.path).claim()
    with folder.claim(), pytest.raises(ConfigError, match="another `xmoe tune` is running"):
        other.__enter__()
    with SearchFolder(folder.path).claim():
        assert folder.path.is_dir()


def test_other_recordings_are_refused(folder):
    folder.check_recordings({"b": "2", "a": "1"})
    folder.check_recordings({"a": "1", "b": "2"})
    with pytest.raises(ConfigError, match="recordings are not those"):
        folder.check_recordings({"a": "1", "b": "3"})


def test_results_are_kept_and_a_number_is_there_once(folder, make_result):
    assert folder.read_results() == []
    first, second = make_result(0, 0.5, 1.0), make_result(1, 0.6, 2.0, finished=False)
    for one in (first, second, first.model_copy(update={"accuracy": 0.7})):
        folder.add_result(one)
    assert [(one.number, one.accuracy) for one in folder.read_results()] == [(1, 0.6), (0, 0.7)]
    assert folder.read_results()[0] == second


@pytest.mark.parametrize("line", ['{"number": 1', "[]", '{"number": 1, "accuracy": "NaN"}'])
def test_a_line_that_is_no_trial_is_named(folder, make_result, line):
    folder.add_result(make_result(0, 0.5, 1.0))
    folder.trials.write_text(folder.trials.read_text() + line + "\n")
    with pytest.raises(RunFolderError, match="cannot be read") as raised:
        folder.read_results()
    assert raised.value.where == str(folder.trials)


def test_the_choice_is_written_for_train(folder, request_, make_result):
    results = [make_result(0, 0.8, 1.0), make_result(1, 0.95, 2.0), make_result(2, 0.955, 9.0)]
    chosen = folder.finish(request_, results)
    assert chosen.number == 1
    settings = read_settings(folder.path / "settings.json")
    assert settings.overrides == chosen.candidate.overrides()
    assert settings.learning_rate == chosen.candidate.learning_rate
    assert settings.reason == describe_choice(chosen, results, request_)
    assert (folder.path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_the_reason_has_the_numbers(request_, make_result):
    results = [make_result(0, 0.8, 1.0), make_result(1, 0.95, 2.0), make_result(2, 0.9, 3.0)]
    asked = request_.model_copy(update={"most": 2.5})
    said = describe_choice(results[1], results, asked)
    assert "trial 1: 95.0% on validation at 2.00 MMAC" in said
    assert "within 2.5 MMAC" in said
    assert "no other trial beats 2 of 3" in said


@pytest.mark.parametrize("text", ["{", "{}", '{"learning_rate": -1}', '{"lr": 0.1}'])
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not settings for training") as raised:
        read_settings(path)
    assert raised.value.where == str(path)
