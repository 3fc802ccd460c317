"""Sound of chosen spans -> windows of a pretrained network -> their embedding -> an answer.

An expert of the kind ``backbone`` is a frozen pretrained network with a linear head that is fitted
in closed form. Windows are what it costs: those of all segments of a call go through the network as
one batch. W windows, D numbers of an embedding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from xmoe.audio.resample import resample
from xmoe.backbones import Backbone, load_backbone
from xmoe.backbones.windows import place_windows
from xmoe.base.backbone import TRUST, BackboneCard
from xmoe.base.config import BackboneSpec, ModelConfig
from xmoe.base.task import task_of
from xmoe.experts.head import LinearHead
from xmoe.experts.memory import EmbeddingMemory
from xmoe.experts.protocol import Expert, Inputs, Payload
from xmoe.experts.sound import pack_sound, place_spans, unpack_sound

Floats32 = npt.NDArray[np.float32]

# Of each expert: four thousand windows of a network that makes a thousand numbers of one.
MEMORY_BYTES = 16 << 20


@lru_cache(maxsize=4)
def open_backbone(card: BackboneCard, folder: str) -> Backbone:
    return load_backbone(card, Path(folder), trust=read_trusted())


def read_trusted() -> list[str]:
    """Names of the cards and files that the user lets run code."""
    names = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
    return [name for name in names if name]


def trust_more(names: Sequence[str]) -> None:
    """Let files of these names run code too, in this process and its children."""
    if names:
        os.environ[TRUST] = ",".join([*read_trusted(), *names])


class BackboneEar:
    """Windows of sound and their embeddings; the network is loaded on first use.

    Embeddings of the latest windows are cached, in ``memory_bytes`` at most.
    """

    def __init__(self, card: BackboneCard, folder: str, *, memory_bytes: int = 0) -> None:
        self.card, self.folder = card, folder
        self.memory = EmbeddingMemory(memory_bytes)
        self._network: Backbone | None = None

    def open(self) -> Backbone:
        """Load the network for good; ConfigError where its files are not those of the card."""
        if self._network is None:
            self._network = open_backbone(self.card, self.folder)
        return self._network

    def embed(self, windows: Sequence[Floats32]) -> Floats32:
        """Embeddings [W, D] of windows [S_i] at the network's rate."""
        table = np.empty((len(windows), self.card.embedding_size), np.float32)
        keys, fresh = self.memory.keys(windows), []
        for row, key in enumerate(keys):
            known = self.memory.recall(key)
            if known is None:
                fresh.append(row)
            else:
                table[row] = known
        for length in sorted({len(windows[row]) for row in fresh}):
            rows = [row for row in fresh if len(windows[row]) == length]
            table[rows] = self.open().embed(np.stack([windows[row] for row in rows]))
        for row in fresh:
            self.memory.keep(keys[row], table[row])
        return table

    def cut(self, samples: Floats32, sample_rate_hz: int, *, apart: bool = False) -> list[Floats32]:
        """Windows of a piece [S], at the network's rate.

        They overlap as the card says; with ``apart``, as few as cover the piece lie side by side.
        """
        card, duration_s = self.card, len(samples) / sample_rate_hz
        from_hz = round(sample_rate_hz / card.speed_factor)
        own = resample(samples, from_hz=from_hz, to_hz=card.sample_rate_hz)
        spans = spread(duration_s, card.span_s) if apart else place_windows(duration_s, card)
        edge = 0 if apart else round(card.edge_s * card.sample_rate_hz)
        own = np.pad(own, edge)
        margin_s = edge / card.sample_rate_hz
        pace = card.speed_factor
        paced = [(margin_s + start * pace, margin_s + end * pace) for start, end in spans]
        cuts = place_spans(paced, card.sample_rate_hz, len(own))
        return [own[first : min(last, first + card.window_samples)] for first, last in cuts]


def pool_embeddings(card: BackboneCard, embeddings: Tensor) -> Tensor:
    """Features [..., P * D], of unit length, of embeddings [..., W, D]; NaN is no window.

    The length of an embedding says how loud and clear a sound was rather than what it is: with
    BirdNET, heads of features that keep it do worse on held-out answers.
    """
    missing = torch.isnan(embeddings)
    parts = []
    for pooling in card.pooling:
        if pooling == "mean":
            parts.append(embeddings.nanmean(-2))
        else:
            parts.append(embeddings.masked_fill(missing, float("-inf")).amax(-2))
    return normalize(torch.cat(parts, -1), dim=-1)


def spread(duration_s: float, span_s: float) -> list[tuple[float, float]]:
    """As many spans (start_s, end_s) as fit a duration best, evenly spaced in it."""
    if duration_s <= span_s:
        return [(0.0, duration_s)]
    count, last_s = max(round(duration_s / span_s), 1), duration_s - span_s
    starts = np.linspace(0.0, last_s, count).tolist() if count > 1 else [last_s / 2]
    return [(start, start + span_s) for start in starts]


class BackboneExpert(Expert[BackboneSpec]):
    """A network with a head: sound of chosen spans -> logits.

    The files of the network lie beside the run's checkpoints, not in them.
    """

    kind = "backbone"

    def __init__(self, spec: BackboneSpec, *, num_classes: int, exclusive: bool) -> None:
        super().__init__()
        self.spec = spec
        self.ear = BackboneEar(spec.card, spec.folder, memory_bytes=MEMORY_BYTES)
        self.head = LinearHead(spec.card.num_features, num_classes, exclusive=exclusive)

    @classmethod
    def build(cls, spec: BackboneSpec, config: ModelConfig) -> BackboneExpert:
        exclusive = task_of(config.task).exclusive
        return cls(spec, num_classes=config.num_classes, exclusive=exclusive)

    @staticmethod
    def rows(spec: BackboneSpec, num_rows: int) -> tuple[int, int]:
        """All stem rows: whatever stands out may be worth a look."""
        return 0, num_rows

    @staticmethod
    def pack(spec: BackboneSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        return pack_sound(spec.name, inputs, rows, spans)

    def answer(self, payload: Payload) -> Tensor:
        windows: list[Floats32] = []
        counts = []
        for pieces, rate_hz in unpack_sound(payload):
            own = [
                window
                for piece in pieces
                for window in self.ear.cut(piece, rate_hz, apart=self.spec.windows is not None)
            ]
            windows += own
            counts.append(len(own))
        embedded = torch.from_numpy(self.ear.embed(windows)).split(counts)
        features = torch.stack([pool_embeddings(self.spec.card, own) for own in embedded])
        logits: Tensor = self.head(features)
        return logits

    def load(self) -> None:
        self.ear.open()

    def describe(self) -> str:
        card = self.spec.card
        most = "" if self.spec.windows is None else f", {self.spec.windows} of them"
        return f"{card.name}, windows of {card.span_s:.3g} s{most}; licence {card.terms}"
