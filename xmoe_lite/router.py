"""What the stem saw of a segment -> who is asked, in one round or two, and one answer.

``xmoe.mixture.promise_router`` and ``rounds`` for one segment in numpy. G numbers of evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from xmoe_lite.sound import Floats

_TOP = 3
_ANSWER_NUMBERS = _TOP + 5
_REACH = 5.0
_LEAST_SHARE = 1e-9
# An answer needs so much of the weight that was planned; below it other experts are asked.
_MIN_MASS = 0.5

# The number of an expert -> its logits [C].
Ask = Callable[[int], Floats]


class Said(NamedTuple):
    """Logits [C] of a segment, how many experts were asked, and how many answered."""

    logits: Floats
    k: int
    heard: int


class Router:
    """Promises, costs, price and weights; the arrays are those of ``PromiseRouter``."""

    def __init__(self, record: Mapping[str, Any], *, exclusive: bool) -> None:
        def read(name: str) -> Floats:
            return np.array(record[name], np.float32)

        self.exclusive = exclusive
        self.shares, self.mean, self.scale = read("shares"), read("mean"), read("scale")
        self.weights, self.bias = read("weights"), read("bias")
        self.most = len(self.shares) - 1
        self.price = np.float32(record["price"]) * read("costs")
        self.first_most: int = record["first_most"]
        self.allowed: list[int] = np.flatnonzero(record["allowed"]).tolist()

    def answer(self, stem: Floats, evidence: Floats, ask: Ask) -> Said:
        """The answer to a segment of which the stem says ``stem`` [C], ``evidence`` [G]."""
        replies: dict[int, Floats] = {}
        count = self._choose(self.promise(evidence, 0)[: self.first_most + 1], 0)
        shares = self._hear(self.share(count), replies, ask)
        if (lost := _lost(replies)) and sum(shares[i] for i in shares if i not in lost) < _MIN_MASS:
            shares = self._hear(self.share(len(shares), lost), replies, ask)
        depth = len(shares)
        if 0 < depth < self.most and not _lost(replies) & set(shares):
            mixed = self._combine(stem, shares, replies).logits
            said = np.stack([stem, *(replies[i] for i in sorted(shares))])
            renewed = [self._describe(said, mixed), evidence[_ANSWER_NUMBERS:]]
            promised = self.promise(np.concatenate(renewed), depth)[depth:]
            if (count := self._choose(promised, depth)) > depth:
                shares = self._hear(self.share(count, lost), replies, ask)
        return self._combine(stem, shares, replies)

    def promise(self, evidence: Floats, depth: int) -> Floats:
        """Promises [K + 1] once ``depth`` experts have answered."""
        seen = ((evidence - self.mean[depth]) / self.scale[depth]).clip(-_REACH, _REACH)
        odds = self.weights[depth] @ seen + self.bias[depth]
        return np.asarray(1.0 / (1.0 + np.exp(-odds)), np.float32)

    def share(self, count: int, lost: Collection[int] = ()) -> dict[int, float]:
        """The weights, one in all, of the ``count`` experts that are asked first."""
        chosen = [index for index in self.allowed if index not in lost][:count]
        row = self.shares[min(count, self.most), 1:]
        own = {index: max(float(row[index]), _LEAST_SHARE) for index in chosen}
        return {index: share / sum(own.values()) for index, share in own.items()}

    def _choose(self, promised: Floats, depth: int) -> int:
        return depth + int((promised - self.price[depth : depth + len(promised)]).argmax())

    def _hear(
        self, shares: dict[int, float], replies: dict[int, Floats], ask: Ask
    ) -> dict[int, float]:
        for index in shares:
            if index not in replies:
                replies[index] = ask(index)
        return shares

    def _combine(
        self, stem: Floats, shares: Mapping[int, float], replies: Mapping[int, Floats]
    ) -> Said:
        lost = _lost(replies)
        own = {index: share for index, share in shares.items() if index not in lost}
        heard, mass = min(len(own), self.most), sum(own.values())
        if not own:
            return Said(stem, len(shares), 0)
        mixed = sum(share / mass * replies[index] for index, share in own.items())
        of_stem = self.shares[heard, 0] / self.shares[heard, : heard + 1].sum()
        logits = np.asarray(stem * of_stem + (1.0 - of_stem) * mixed, np.float32)
        return Said(logits, len(shares), len(own))

    def _describe(self, said: Floats, mixed: Floats) -> Floats:
        """The numbers [8] of an answer ``mixed`` [C] by those who gave it, [1 + k, C]."""
        belief, own = self._believe(mixed), self._believe(said)
        ranked = np.zeros(_TOP, np.float32)
        top = np.sort(belief)[::-1][:_TOP]
        ranked[: len(top)] = top
        entropy = -(belief * np.log(belief + 1e-9)).sum() / np.log(len(belief))
        first = int(belief.argmax())
        given = own[:, first]
        agree = (own.argmax(1) == first).mean()
        odds = ranked.clip(1e-4, 1.0 - 1e-4)
        numbers = [ranked[0] - ranked[1], entropy, agree, given.mean(), given.std()]
        return np.array([*np.log(odds / (1.0 - odds)), *numbers], np.float32)

    def _believe(self, logits: Floats) -> Floats:
        """How much each class counts, [..., C]."""
        if not self.exclusive:
            p = 1.0 / (1.0 + np.exp(-logits))
            return np.asarray(p / np.maximum(p.sum(-1, keepdims=True), 1e-6))
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(p / p.sum(-1, keepdims=True))


def _lost(replies: Mapping[int, Floats]) -> set[int]:
    return {index for index, logits in replies.items() if not np.isfinite(logits).all()}
