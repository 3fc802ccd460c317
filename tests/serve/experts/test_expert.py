"""An expert answers with the weights that a call names, or says that it cannot."""

import shutil

import numpy as np
import pytest

from tests.fixtures.runs import write_run
from xmoe.base.errors import RunFolderError
from xmoe.run.folder import RunFolder
from xmoe.serve.experts import expert as module
from xmoe.serve.experts.expert import ExpertCore, ExpertVersions, OtherRun, Weights


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    """A run like the tiny one with other weights."""
    return write_run(tmp_path_factory.mktemp("other") / "run", seed=1)


@pytest.fixture
def versions(tiny_run):
    return ExpertVersions(str(tiny_run), "low")


def weights_at(run):
    return Weights(str(run), "best", RunFolder(run).fingerprint())


def answers(core):
    """An expert's logits for a fixed window."""
    levels = np.random.default_rng(0).integers(0, 255, (1, 8, 2, 8)).astype(np.uint8)
    return core.infer({"levels": levels, "scale": np.full(1, 0.01, np.float32)})


def test_own_weights_are_not_loaded_twice(versions, tiny_run):
    assert versions.of(weights_at(tiny_run)) is versions.own


def test_call_of_another_run_is_answered_with_its_weights(versions, other_run):
    core = versions.of(weights_at(other_run))
    assert np.array_equal(answers(core), answers(ExpertCore.load(str(other_run), "low")))
    assert not np.allclose(answers(core), answers(versions.own))
    assert versions.of(weights_at(other_run)) is core


def test_weights_that_are_gone_are_refused_and_looked_for_once(
    versions, other_run, tmp_path, monkeypatch
):
    gone = tmp_path / "gone"
    shutil.copytree(other_run, gone)
    wanted = weights_at(gone)
    shutil.rmtree(gone)
    looked = []
    load = ExpertCore.load
    monkeypatch.setattr(ExpertCore, "load", lambda *a, **k: looked.append(a) or load(*a, **k))
    for _ in range(3):
        with pytest.raises(OtherRun):
            versions.of(wanted)
    assert len(looked) == 1
    monkeypatch.setattr(module, "NOT_FOUND_FOR_S", 0.0)
    versions._not_found = None
    shutil.copytree(other_run, gone)
    assert versions.of(wanted).weights_sha256 == wanted.sha256


def test_other_weights_in_the_same_folder_are_refused(versions, tiny_run, other_run, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(other_run)
    wanted = weights_at(current)
    current.unlink()
    current.symlink_to(tiny_run)
    with pytest.raises(OtherRun):
        versions.of(wanted)


def test_weights_that_change_while_they_are_read_are_refused(tiny_run, monkeypatch):
    sums = iter("ab")
    monkeypatch.setattr(RunFolder, "fingerprint", lambda *_: next(sums))
    with pytest.raises(RunFolderError, match="changed while") as raised:
        ExpertCore.load(str(tiny_run), "low")
    assert "give every run a folder of its own" in (raised.value.mend or "")


def test_a_network_of_a_run_at_an_address_answers_once_the_copy_is_gone(backbone_run):
    near = ExpertCore.load(str(backbone_run), "third")
    far = ExpertCore.load(f"file://{backbone_run}", "third")
    assert not RunFolder(far.expert.spec.folder).path.exists()
    rng = np.random.default_rng(0)
    for _ in range(2):
        payload = {
            "samples": rng.integers(-9999, 9999, (2, 3200)).astype(np.int16),
            "scale": np.full(2, 1e-4, np.float32),
            "rate_hz": np.full(2, 8000),
            "pieces": np.array([[800, 800], [1600, 0]]),
        }
        np.testing.assert_array_equal(far.infer(payload), near.infer(payload))
