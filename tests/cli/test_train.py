"""``xmoe train`` hands every option to the classifier and answers with the figures of the run."""

import pytest

from xmoe.base.errors import RunFolderError
from xmoe.cli import main
from xmoe.cli.train import describe_run


def fitted(classifier):
    return next(settings for what, settings in classifier.calls if what == "fit")


def test_figures_of_the_run_are_the_answer(classifier, run_json, tmp_path):
    out = tmp_path / "run"
    code, fields = run_json("train", "--dataset", tmp_path, "--out", out, "--local")
    assert code == 0
    assert fields["accuracy"] == 0.9
    assert fields["accuracy_ci"] == [0.8, 0.95]
    assert fields["run"] == str(out)


def test_options_reach_the_classifier(classifier, run_json, tmp_path):
    options = "--local --epochs 3 --batch-size 16 --budget 1.5 --seed 7 --policy rule --device cpu"
    run_json("train", "--dataset", tmp_path, "--out", tmp_path / "run", *options.split())
    made = classifier.calls[0][1]
    assert (made["budget"], made["device"], made["seed"]) == (1.5, "cpu", 7)
    settings = fitted(classifier)
    wanted = {"epochs": 3, "batch_size": 16, "policy": "rule", "resume": False, "strict": False}
    assert {name: settings[name] for name in wanted} == wanted
    assert "engine" not in settings


def test_overrides_are_only_what_was_given(classifier, run_json, tmp_path):
    options = "--local --frontend cqt --band 50:2000 --k-max 2 --sample-rate 8000"
    run_json("train", "--dataset", tmp_path, "--out", tmp_path / "run", *options.split())
    given = fitted(classifier)["overrides"].model_dump(exclude_none=True)
    assert given["frontend"] == "cqt"
    assert given["k_max"] == 2
    assert given["sample_rate_hz"] == 8000
    assert "segment_s" not in given


def test_without_local_the_engine_is_ray_train(classifier, run_json, tmp_path):
    from xmoe.jobs.train import train_with_ray

    run_json("train", "--dataset", tmp_path, "--out", tmp_path / "run", "--workers", "2")
    settings = fitted(classifier)
    assert settings["engine"] is train_with_ray
    assert settings["num_workers"] == 2


def test_interruption_names_the_command_that_goes_on(classifier, monkeypatch, tmp_path, capsys):
    def interrupt(self, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier, "fit", interrupt)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as left:
        main(["train", "--dataset", str(tmp_path), "--out", str(out), "--local", "-q"])
    assert left.value.code == 130
    assert f"xmoe train --dataset {tmp_path} --out {out} --resume" in capsys.readouterr().err


def test_run_without_figures_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"metrics\.json"):
        describe_run(tmp_path)


def test_missing_dataset_is_the_users_mistake(run_json, tmp_path):
    code, fields = run_json("train", "--dataset", tmp_path / "no", "--out", tmp_path / "run")
    assert code == 2
    assert "does not exist" in fields["what"]
