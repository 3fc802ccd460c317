"""Whose features a head is fitted to: the stem, random kernels, or a pretrained network.

Each has settings that decide its features, and an ear that turns the sound of a segment into one
row of numbers. For a network the row holds the embeddings of all its windows, so that any pooling
of any of them needs no second pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from xmoe.audio.segment import Samples, Segment
from xmoe.backbones.windows import place_windows
from xmoe.base.config import BackboneSpec, Frozen, KernelsSpec, SpectroConfig
from xmoe.experts.backbone import BackboneEar, pool_embeddings
from xmoe.experts.kernels import Floats32, KernelsEar
from xmoe.experts.ridge import Floats
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.glance.kernel_stem import NUM_KERNELS, KernelStem


class StemSpec(Frozen):
    """A stem of random kernels on the run's own front end."""

    spectro: SpectroConfig
    kernels: int = NUM_KERNELS
    seed: int = 0


SoundSpec = KernelsSpec | BackboneSpec
Spec = SoundSpec | StemSpec


class Ear(Protocol):
    """Sound -> features."""

    @property
    def num_features(self) -> int:
        """D."""
        ...

    def measure(self, samples: Samples, sample_rate_hz: int) -> Floats32:
        """Features [D] of samples [S]."""
        ...


class StemEar:
    """What the head of a random-kernel stem reads of a segment, computed as in service."""

    def __init__(self, spec: StemSpec) -> None:
        self.frontend = build_frontend(spec.spectro)
        bins = spec.spectro.num_bins
        self.stem = KernelStem(num_bins=bins, num_classes=1, count=spec.kernels, seed=spec.seed)

    @property
    def num_features(self) -> int:
        return self.stem.num_features

    @torch.inference_mode()
    def measure(self, samples: Samples, sample_rate_hz: int) -> Floats32:
        segment = Segment(samples, sample_rate_hz, 0)
        spec = self.frontend.compress(*measure_segments([segment], self.frontend))
        features: Floats32 = self.stem.pool_bands(self.stem.map_features(spec))[0].numpy()
        return features


class WindowsEar:
    """Embeddings of all windows of a segment, side by side; NaN where it is too short for them."""

    def __init__(self, spec: BackboneSpec, segment_s: float) -> None:
        self.ear = BackboneEar(spec.card, spec.folder)
        self.most = len(place_windows(segment_s, spec.card))

    @property
    def num_features(self) -> int:
        return self.most * self.ear.card.embedding_size

    def measure(self, samples: Samples, sample_rate_hz: int) -> Floats32:
        """Embeddings [windows * D] of samples [S]."""
        found = self.ear.embed(self.ear.cut(samples, sample_rate_hz)[: self.most])
        row = np.full((self.most, found.shape[1]), np.nan, np.float32)
        row[: len(found)] = found
        return row.reshape(-1)


def build_ear(spec: Spec, segment_s: float) -> Ear:
    if isinstance(spec, StemSpec):
        return StemEar(spec)
    return WindowsEar(spec, segment_s) if isinstance(spec, BackboneSpec) else KernelsEar(spec)


def pick_kernels(specs: Sequence[Spec]) -> list[KernelsSpec | StemSpec]:
    """Specs whose heads may be fitted on copies at other speeds: networks would cost too much."""
    return [spec for spec in specs if not isinstance(spec, BackboneSpec)]


def seen_by(spec: Spec) -> list[object]:
    """What decides the features of a spec; equal for specs with the same features."""
    if isinstance(spec, BackboneSpec):
        # Neither the folder of its files nor the pooling of its windows changes embeddings.
        return ["backbone", spec.card.model_dump(exclude={"pooling"})]
    kind = "stem" if isinstance(spec, StemSpec) else "kernels"
    return [kind, spec.spectro, spec.kernels, spec.seed]


def pool_windows(
    spec: BackboneSpec, table: Floats32, segment_s: float, focus: Floats32 | None
) -> Floats32:
    """Head features [b, P * D] of the embeddings [b, windows * D] of rows.

    ``focus`` [b, columns] is the saliency over time, for a spec that hears only some windows.
    """
    embeddings = torch.from_numpy(table).unflatten(1, (-1, spec.card.embedding_size))
    if spec.windows is not None:
        assert focus is not None, "no saliency to choose windows by"
        spans = place_windows(segment_s, spec.card)
        inside = [(max(start, 0.0), min(end, segment_s)) for start, end in spans]
        missing = torch.isnan(embeddings[..., 0])
        chosen = rank_windows(missing, np.array(inside) / segment_s, focus, spec.windows)
        embeddings = embeddings.masked_fill(~chosen.unsqueeze(2), float("nan"))
    features: Floats32 = pool_embeddings(spec.card, embeddings).numpy()
    return features


def rank_windows(missing: torch.Tensor, spans: Floats, focus: Floats32, count: int) -> torch.Tensor:
    """Mark in [b, W] the ``count`` most salient windows that do not overlap.

    ``missing`` [b, W] do not exist; ``spans`` [W, 2] are shares of the time that ``focus`` [b,
    columns] covers.
    """
    sums = np.concatenate([np.zeros((len(focus), 1)), focus.cumsum(1, dtype=np.float64)], 1)
    edges = spans * focus.shape[1]
    left = np.minimum(edges.astype(np.int64), focus.shape[1] - 1)
    upto = sums[:, left] + (edges - left) * (sums[:, left + 1] - sums[:, left])
    scores = torch.from_numpy(upto[..., 1] - upto[..., 0]).masked_fill(missing, float("-inf"))
    starts, ends = torch.from_numpy(spans).unbind(1)
    meet = (starts[:, None] < ends[None] - 1e-6) & (starts[None] < ends[:, None] - 1e-6)
    chosen = torch.zeros_like(missing)
    for _ in range(count):
        best, place = scores.max(1)
        chosen[torch.arange(len(place)), place] |= best > float("-inf")
        scores = scores.masked_fill(meet[place], float("-inf"))
    return chosen
