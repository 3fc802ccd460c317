"""``xmoe train`` asks for a fit by every option and answers with the figures of the run."""

import json

import numpy as np
import pytest
from safetensors.numpy import load

from tests.fixtures.closed import train_small
from tests.fixtures.stores import upload
from xmoe.base.backbone import TRUST
from xmoe.base.errors import RunFolderError
from xmoe.cli import main
from xmoe.cli.train import describe_run
from xmoe.experts.backbone import read_trusted
from xmoe.pipeline import fit
from xmoe.profile.assemble import profile_dataset
from xmoe.serve.deploy.preflight import judge_run, rehearse
from xmoe.serve.settings import ServeSettings
from xmoe.storage.place import open_place
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
        describe_run(tmp_path, tmp_path)


def test_missing_dataset_is_the_users_mistake(run_json, tmp_path):
    code, fields = run_json("train", "--dataset", tmp_path / "no", "--out", tmp_path / "run")
    assert code == 2
    assert "does not exist" in fields["what"]


def test_trusted_names_join_those_of_the_environment(asked, monkeypatch):
    monkeypatch.setenv(TRUST, "one")
    asked("--local --trust two --trust net.pt2")
    assert read_trusted() == ["one", "two", "net.pt2"]


# What a clock says, where the recordings are, and what is made of both.
OF_A_FIT = {"dataset.json", "metrics.json", "closed_form.json", "run_config.json", "report.html"}
OF_A_FIT |= {"architecture.txt", "manifest.json", "golden.json", "costs.json"}


@pytest.fixture
def stored_run(scenes, closed_run, bucket):
    """The addresses of scenes in an object store, and of a run that was trained on them."""
    return upload(scenes, f"{bucket}/set"), upload(closed_run, f"{bucket}/runs/one")


def test_from_a_store_to_a_store_is_the_run_of_a_disk(scenes, closed_run, bucket):
    data, run = upload(scenes, f"{bucket}/set"), f"{bucket}/runs/one"
    train_small(data, run)
    far = {found.name: open_place(run) / found.name for found in open_place(run).walk()}
    here = {found.name: closed_run / found.name for found in open_place(closed_run).walk()}
    assert far.keys() == here.keys()
    differ = {name for name, path in here.items() if path.read_bytes() != far[name].read()}
    tables = {name for name in here if name.endswith(".safetensors")}
    assert {name.rpartition("/")[2] for name in differ - tables} <= OF_A_FIT
    for name in tables & differ:  # what ran beside a fit moves its sums in the last bits
        one, other = load(here[name].read_bytes()), load(far[name].read())
        assert one.keys() == other.keys()
        for key, values in one.items():
            np.testing.assert_allclose(other[key], values, rtol=1e-5, atol=1e-5)
    told = json.loads(far["dataset.json"].read())
    assert (told["root"], told["clips"]["test"]) == (data, 16)
    assert b"The recordings are not at" not in far["report.html"].read()


def test_run_in_a_store_is_evaluated_asked_and_deployed(
    scenes, stored_run, closed_run, run_json, undrawn, tmp_path
):
    data, run = stored_run
    known = json.loads((closed_run / "metrics.json").read_text())
    code, fields = run_json("eval", run, "--dataset", data)
    assert (code, fields["accuracy"], fields["out"]) == (0, known["accuracy"], f"{run}/eval-test")
    written = json.loads((open_place(run) / "eval-test/metrics.json").read())
    assert written["accuracy_at_fixed_k"] == fields["accuracy_at_fixed_k"]
    code, fields = run_json("eval", run, "--dataset", scenes, "--out", f"{data}-eval")
    assert (code, open_place(f"{data}-eval/metrics.json").kind()) == (0, "file")
    code, fields = run_json("infer", run, scenes / "000.wav")
    here = run_json("infer", closed_run, scenes / "000.wav")[1]
    assert fields["answers"][0]["probabilities"] == here["answers"][0]["probabilities"]
    settings = ServeSettings(run=run)
    verdict = judge_run(settings, rehearse(settings), ServeSettings(run=str(closed_run)))
    assert verdict.objections == ()


def test_run_in_a_store_is_not_written_over_and_is_resumed_anywhere(
    stored_run, run_json, few_families, undrawn, monkeypatch, tmp_path
):
    data, run = stored_run
    options = ("--local", "--policy", "rule", "--device", "cpu")
    code, fields = run_json("train", "--dataset", data, "--out", run, *options)
    assert (code, fields["where"]) == (2, run)
    assert "--resume" in fields["mend"]
    before = (open_place(run) / "checkpoints/best.json").read()
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another machine"))
    code, fields = run_json("train", "--dataset", data, "--out", run, "--resume", *options)
    assert (code, fields["run"]) == (0, run)
    assert (open_place(run) / "checkpoints/best.json").read() == before


def test_what_is_wrong_in_a_store_is_named_by_its_address(bucket, run_json, tmp_path):
    open_place(f"{bucket}/set/metadata.csv").write(b"name,label\nx,y\n")
    out = tmp_path / "run"
    code, fields = run_json("train", "--dataset", f"{bucket}/set", "--out", out, "--local")
    assert (code, fields["where"]) == (2, f"{bucket}/set/metadata.csv")
    code, fields = run_json("train", "--dataset", f"{bucket}/none", "--out", out, "--local")
    assert (code, fields["where"]) == (2, f"{bucket}/none")
