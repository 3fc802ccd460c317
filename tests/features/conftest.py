"""Tones in noise as recordings and as stores."""

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
    "change",
    "config",
    "frontend",
    "make_job",
    "make_trainer",
    "store_paths",
    "stores",
    "tones",
    "trained",
]
