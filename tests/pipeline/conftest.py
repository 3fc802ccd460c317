"""Folders of tones and of scenes, one run fitted to each, and requests to fit more."""

import shutil
from dataclasses import replace

import pytest

from tests.fixtures.closed import (
    backbone_run,
    closed_fit,
    closed_job,
    closed_run,
    few_families,
    leaky,
    loud_scenes,
    mixed,
    scenes,
    tiny_card,
    voices,
)
from tests.fixtures.fitted import fitted, small, tone, tones, write_tones
from xmoe.base.config import TrainConfig
from xmoe.pipeline.request import FitRequest

__all__ = [
    "backbone_run",
    "closed_fit",
    "closed_job",
    "closed_run",
    "few_families",
    "fitted",
    "leaky",
    "loud_scenes",
    "mixed",
    "scenes",
    "small",
    "tiny_card",
    "tone",
    "tones",
    "voices",
    "write_tones",
]


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
        train=TrainConfig(fit="closed", device="cpu"),
        policy="rule",
    )
    return replace(request, **changes)
