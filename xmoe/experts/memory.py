"""Embeddings of the latest windows: a recording asked about twice is embedded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]


class EmbeddingMemory:
    """Embeddings [D] by the hash of their windows; the least recently used go first.

    They take ``most_bytes`` at most; none is kept that is not finite. Thread-safe.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[bytes, Floats32] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keys(self, windows: Sequence[Floats32]) -> list[bytes]:
        """Hashes of windows [S_i]: the same samples have the same key."""
        if not self.most_bytes:
            return [b""] * len(windows)
        parts = (np.ascontiguousarray(window).data for window in windows)
        return [hashlib.blake2b(part, digest_size=16).digest() for part in parts]

    def recall(self, key: bytes) -> Floats32 | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: bytes, embedding: Floats32) -> None:
        """Keep an embedding, and drop the oldest where room runs out."""
        most = self.most_bytes // embedding.nbytes
        if not most or not np.isfinite(embedding).all():
            return
        with self._lock:
            self._kept[key] = embedding.copy()
            while len(self._kept) > most:
                self._kept.popitem(last=False)
