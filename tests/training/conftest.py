"""Tones in noise as recordings and as stores."""

from tests.fixtures.mixtures import build, make_specs, model, specs
from tests.fixtures.tones import (
    assert_same,
    change,
    config,
    frontend,
    make_job,
    make_trainer,
    store_paths,
    stores,
    tones,
    trained,
)

__all__ = [
    "assert_same",
    "build",
    "change",
    "config",
    "frontend",
    "make_job",
    "make_specs",
    "make_trainer",
    "model",
    "specs",
    "store_paths",
    "stores",
    "tones",
    "trained",
]
