"""``xmoe train`` asks for a fit by every option and answers with the figures of the run."""

import pytest

from xmoe.base.backbone import TRUST
from xmoe.base.errors import RunFolderError
from xmoe.cli import main
from xmoe.cli.train import describe_run
from xmoe.experts.backbone import read_trusted
from xmoe.pipeline import fit
from xmoe.profile.assemble import profile_dataset
from xmoe.training.session import train_here


@pytest.fixture
def asked(requests, run_json, tmp_path):
    """The function that runs the command with options and returns its request."""

    def ask(options):
        run_json("train", "--dataset", tmp_path, "--out", tmp_path / "run", *options.split())
        return requests[-1]

    return ask


def test_figures_of_the_run_are_the_answer(requests, run_json, tmp_path):
    out = tmp_path / "run"
    code, fields = run_json("train", "--dataset", tmp_path, "--out", out, "--local")
    assert code == 0
    assert fields["accuracy"] == 0.9
    assert fields["accuracy_ci"] == [0.8, 0.95]
    assert fields["run"] == str(out)


def test_options_become_a_request(asked, tmp_path):
    request = asked(
        "--local --epochs 3 --batch-size 16 --budget 1.5 --seed 7 --policy rule --device cpu"
    )
    assert (request.dataset_dir, request.out_dir) == (tmp_path, tmp_path / "run")
    assert (request.budget, request.train.device, request.train.seed) == (1.5, "cpu", 7)
    assert (request.train.epochs, request.train.batch_size) == (3, 16)
    assert (request.policy, request.resume, request.strict) == ("rule", False, False)
    assert (request.engine, request.profiler) == (train_here, profile_dataset)


def test_overrides_are_only_what_was_given(asked):
    request = asked("--local --frontend cqt --band 50:2000 --k-max 2 --sample-rate 8000")
    assert request.overrides.model_dump(exclude_none=True) == {
        "frontend": "cqt",
        "band_hz": (50.0, 2000.0),
        "k_max": 2,
        "sample_rate_hz": 8000,
    }


def test_without_local_the_engine_is_ray_train(asked):
    from xmoe.jobs.profile import run_profile
    from xmoe.jobs.train import train_with_ray

    request = asked("--workers 2")
    assert (request.engine, request.profiler) == (train_with_ray, run_profile)
    assert request.train.num_workers == 2


def test_interruption_names_the_command_that_goes_on(monkeypatch, tmp_path, capsys):
    def interrupt(request, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit_run", interrupt)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as left:
        main(["train", "--dataset", str(tmp_path), "--out", str(out), "--local", "-q"])
    assert left.value.code == 130
    said = capsys.readouterr().err
    assert f"xmoe train --dataset {tmp_path} --out {out} --local --resume" in said
    assert "nothing answers yet" in said


def test_run_without_figures_is_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"metrics\.json"):
        describe_run(tmp_path)


def test_missing_dataset_is_the_users_mistake(run_json, tmp_path):
    code, fields = run_json("train", "--dataset", tmp_path / "no", "--out", tmp_path / "run")
    assert code == 2
    assert "does not exist" in fields["what"]


def test_trusted_names_join_those_of_the_environment(asked, monkeypatch):
    monkeypatch.setenv(TRUST, "one")
    asked("--local --trust two --trust net.pt2")
    assert read_trusted() == ["one", "two", "net.pt2"]
