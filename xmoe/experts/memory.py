"""Embeddings of the windows that were heard last: a recording asked twice is not heard twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]


class EmbeddingMemory:
    """Embeddings [D] by the hash of their windows, the least used of which are forgotten.

    All that is kept takes ``most_bytes`` at most; what is not finite is never kept. Safe to use
    from several threads.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[bytes, Floats32] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keys(self, windows: Sequence[Floats32]) -> list[bytes]:
        """Return what windows [S_i] are known by: equal for those of the same samples."""
        if not self.most_bytes:
            return [b""] * len(windows)
        parts = (np.ascontiguousarray(window).data for window in windows)
        return [hashlib.blake2b(part, digest_size=16).digest() for part in parts]

    def recall(self, key: bytes) -> Floats32 | None:
        """Return an embedding that is kept, None where there is none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: bytes, embedding: Floats32) -> None:
        """Keep an embedding, and forget what there is no room for."""
        most = self.most_bytes // embedding.nbytes
        if not most or not np.isfinite(embedding).all():
            return
        with self._lock:
            self._kept[key] = embedding.copy()
            while len(self._kept) > most:
                self._kept.popitem(last=False)
