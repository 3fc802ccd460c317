"""A card and its folder -> a network that turns windows of sound into embeddings.

Here is what all formats share: files are checked before they are opened, sound is levelled and
padded as the card says, cut into batches, and handed from file to file. Shapes: b windows,
n samples, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from xmoe.backbones.files import demand_trust, verify_files
from xmoe.backbones.formats import UNSAFE, FloatArray, Runner, find_opener
from xmoe.base.backbone import BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError

# Below this a window is silence and is not made louder.
_QUIET = 1e-9


def load_backbone(
    card: BackboneCard, folder: Path, *, trust: Collection[str] = (), threads: int = 1
) -> Backbone:
    """Open the network of ``card``, whose files lie in ``folder``; ConfigError where that fails.

    Files of formats that can run code are opened only where ``trust`` names them or the card. One
    thread by default: replicas share a machine, and threads of one would wait for those of others.
    """
    opener = find_opener(card.format)
    paths = verify_files(card, folder)
    for path in paths if card.format in UNSAFE or card.remote_code else ():
        demand_trust(card, path, trust)
    steps = zip(card.files, paths, strict=True)
    opened = [(f, opener(card, f, path, threads)) for f, path in steps if f.output is not None]
    return Backbone(card, opened)


class Backbone:
    """A pretrained network; thread-safe."""

    def __init__(self, card: BackboneCard, steps: list[tuple[BackboneFile, Runner]]) -> None:
        self.card = card
        self._steps = steps

    def embed(self, windows: FloatArray) -> FloatArray:
        """Embeddings [b, D] of windows [b, n] at the card's rate, n at most a window."""
        if windows.ndim != 2 or not 0 < windows.shape[1] <= self.card.window_samples:
            raise ValueError(f"{windows.shape} is not [b, n <= {self.card.window_samples}]")
        sound = fit_windows(np.asarray(windows, np.float32), self.card)
        size = self.card.most_batch
        batches = [sound[start : start + size] for start in range(0, len(sound), size)]
        empty = np.zeros((0, self.card.embedding_size), np.float32)
        return np.concatenate([empty, *(self._embed_batch(batch) for batch in batches)])

    def _embed_batch(self, sound: FloatArray) -> FloatArray:
        values = sound
        for file, runner in self._steps:
            values = _run_file(file, runner, values)
        flat = values.reshape(len(sound), -1)
        if flat.shape[1] != self.card.embedding_size:
            raise ConfigError(
                f"an embedding has {flat.shape[1]} numbers (output {values.shape}), not "
                f"{self.card.embedding_size}",
                where=f"backbone {self.card.name}",
                mend="correct embedding_size, or the output or mean_over of its last file",
            )
        return flat


def fit_windows(sound: FloatArray, card: BackboneCard) -> FloatArray:
    """Sound [b, n] at the card's level, padded to the length that the network takes."""
    if card.normalise != "none":
        rows = np.abs(sound) if card.normalise == "peak" else sound**2
        level = rows.max(1) if card.normalise == "peak" else np.sqrt(rows.mean(1))
        sound = (sound / np.where(level < _QUIET, 1.0, level)[:, None]).astype(np.float32)
    least = card.least_samples
    if sound.shape[1] >= least:
        return np.ascontiguousarray(sound, np.float32)
    missing = ((0, 0), (0, least - sound.shape[1]))
    mode: dict[str, str] = {"mode": "wrap"} if card.padding == "repeat" else {"mode": "constant"}
    return np.pad(sound, missing, **mode)  # type: ignore[call-overload, no-any-return]


def _run_file(file: BackboneFile, runner: Runner, values: FloatArray) -> FloatArray:
    """A file's output for [b, ...], averaged over the axes that the card names."""
    fed = (file.scale * values + file.offset).astype(np.float32, copy=False)
    fed = fed.reshape(len(values), *file.shape[1:])
    size = 1 if file.one_by_one else len(fed)
    parts = [runner(fed[start : start + size]) for start in range(0, len(fed), size)]
    result = np.concatenate(parts).astype(np.float32, copy=False)
    return result.mean(axis=file.mean_over) if file.mean_over else result
