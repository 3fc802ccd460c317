"""What speaks against a run: other answers than it gave, no figures, or worse ones."""

import json

import pytest

from tests.fixtures.runs import write_figures, write_run
from xmoe.base.errors import RunFolderError
from xmoe.predict.golden import write_golden
from xmoe.run.folder import RunFile, RunFolder
from xmoe.serve.deploy.preflight import judge_run, rehearse
from xmoe.serve.settings import ServeSettings


@pytest.fixture
def make_run(tmp_path):
    """The function that writes a run with so many of 100 test clips right."""

    def make(name, right, seed=0):
        run = write_run(tmp_path / name, seed=seed)
        write_figures(run, [True] * right + [False] * (100 - right))
        write_golden(RunFolder(run))
        return run

    return make


def judge(run, served=None, **rules):
    settings = ServeSettings(run=str(run))
    other = None if served is None else ServeSettings(run=str(served))
    return judge_run(settings, rehearse(settings), other, **rules)


def test_sound_run_passes(make_run):
    run = make_run("new", 92)
    verdict = judge(run, make_run("old", 90, seed=1))
    assert verdict.objections == ()
    assert verdict.figures == {"accuracy": 0.92, "majority_accuracy": 0.5}
    assert verdict.found[0].startswith("golden    4 clips")
    assert "accuracy 0.9000 -> 0.9200, +0.0200" in verdict.found[-1]


def test_worse_run_is_objected_to(make_run):
    old = make_run("old", 90)
    (objection,) = judge(make_run("new", 60), old).objections
    assert objection.startswith("it is worse: accuracy 0.9000 -> 0.6000, -0.3000")
    slightly = make_run("slightly", 87)
    (objection,) = judge(slightly, old).objections
    assert "-0.0300" in objection
    assert judge(make_run("hardly", 89), old).objections == ()


def test_clearly_worse_run_is_objected_to_however_much_it_may_lose(make_run):
    old = make_run("old", 90)
    assert judge(make_run("new", 70), old, may_lose=0.5).objections != ()


def test_first_run_must_be_better_than_the_commonest_answer(make_run):
    (objection,) = judge(make_run("bad", 8)).objections
    assert objection == "accuracy 0.0800 is no better than the commonest answer, 0.5000"


def test_golden_answers_that_differ_are_objected_to(make_run):
    run = make_run("new", 90)
    path = RunFolder(run).file(RunFile.GOLDEN)
    golden = json.loads(path.read_text())
    golden["answers"][2] = {"click": 1.0, "tone": 0.0}
    path.write_text(json.dumps(golden))
    (objection,) = judge(run).objections
    assert objection.startswith("its golden answers differ by 0.")
    path.write_text(json.dumps(golden | {"weights_sha256": "0" * 64}))
    assert judge(run).objections[0].startswith("its golden answers belong to other weights")
    path.unlink()
    assert judge(run).objections == ()


def test_run_without_figures_or_with_others_is_objected_to(make_run, tmp_path):
    old = make_run("old", 90)
    bare = write_run(tmp_path / "bare")
    (objection,) = judge(bare).objections
    assert objection.startswith("the run has no figures on test clips")
    new = make_run("new", 90)
    RunFolder(new).file(RunFile.TRACES).unlink()
    (objection,) = judge(new, old).objections
    assert objection.startswith("it cannot be compared with the served run")


def test_run_that_does_not_load_raises(make_run):
    run = make_run("torn", 90)
    for path in run.rglob("router.safetensors"):
        path.write_bytes(b"torn")
    with pytest.raises(RunFolderError, match="SHA-256 differs"):
        rehearse(ServeSettings(run=str(run)))


def test_what_is_heard_is_what_a_service_answers(make_run, ask, serve_run):
    run = make_run("new", 90)
    rehearsal = rehearse(ServeSettings(run=str(run)))
    service = serve_run(run=run)
    for recording, wanted in zip(rehearsal.recordings, rehearsal.answers, strict=True):
        said = ask("POST", "/v1/classify", body=recording, service=service).json()
        assert said["weights_sha256"] == rehearsal.weights_sha256
        assert said["probabilities"] == pytest.approx(wanted, abs=1e-5)
