"""Folders of tones and of scenes, one run fitted to each, and requests to fit more."""

import shutil
from dataclasses import replace

import pytest

from tests.fixtures.closed import (
    few_families,
    keep_small,
    leaky,
    scenes,
)
from tests.fixtures.fitted import fitted, small, tone, tones, write_tones
from xmoe.base.config import TrainConfig
from xmoe.cli import main
from xmoe.pipeline.request import FitRequest

__all__ = [
    "few_families",
    "fitted",
    "leaky",
    "scenes",
    "small",
    "tone",
    "tones",
    "write_tones",
]

COMMAND = "--local --fit closed --policy rule --device cpu -q"


@pytest.fixture
def request_for(small, undrawn):
    """The function that makes a request to fit a folder of tones; its pictures stay empty."""

    def make(root, out, *, train=None, **changes):
        settings = {"epochs": small["epochs"], "batch_size": small["batch_size"], "device": "cpu"}
        request = FitRequest(
            dataset_dir=root,
            out_dir=out,
            train=TrainConfig(**settings | (train or {})),
            policy="rule",
            overrides=small["overrides"],
        )
        return replace(request, **changes)

    return make


@pytest.fixture
def copied(fitted, tmp_path):
    """A copy of the fitted run that a test may go on with."""
    return shutil.copytree(fitted.run_dir, tmp_path / "run")


def ask_closed(root, out, **changes):
    """Return a request to fit a folder of scenes in closed form."""
    request = FitRequest(
        dataset_dir=root,
        out_dir=out,
        train=TrainConfig(device="cpu"),
        policy="rule",
        fit="closed",
    )
    return replace(request, **changes)


@pytest.fixture(scope="session")
def closed_run(scenes, tmp_path_factory):
    """The path of a run that the command fitted to the scenes; it is not to be changed."""
    out = tmp_path_factory.mktemp("closed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        keep_small(patch)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda _, target, **__: target.write(b""))
        with pytest.raises(SystemExit) as left:
            main(["train", "--dataset", str(scenes), "--out", str(out), *COMMAND.split()])
    assert left.value.code == 0
    return out
