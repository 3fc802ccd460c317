"""Formats that other packages bring are found by their entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np

from tests.fixtures.backbones import SIZE, sounds, tiny_backbone
from xmoe.backbones import formats, load_backbone


def open_ones(card, file, path, threads):
    return lambda sound: np.full((len(sound), SIZE), threads, np.float32)


def test_another_package_adds_a_format(tmp_path, monkeypatch):
    theirs = EntryPoint("ones", f"{__name__}:open_ones", formats.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: open_ones)
    monkeypatch.setattr(formats, "entry_points", lambda group: [theirs][: group == formats.GROUP])
    card = tiny_backbone(tmp_path, format="ones")
    found = load_backbone(card, tmp_path, threads=3).embed(sounds(card, 2))
    assert np.array_equal(found, np.full((2, SIZE), 3.0))
