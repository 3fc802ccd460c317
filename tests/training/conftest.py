"""Tones in noise as recordings and as stores."""

from tests.fixtures.closed import (
    closed_fit,
    closed_job,
    few_families,
    leaky,
    mixed,
    pitches,
    scenes,
    voices,
)
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
    "closed_fit",
    "closed_job",
    "config",
    "few_families",
    "frontend",
    "leaky",
    "make_job",
    "make_specs",
    "make_trainer",
    "mixed",
    "model",
    "pitches",
    "scenes",
    "specs",
    "store_paths",
    "stores",
    "tones",
    "trained",
    "voices",
]
