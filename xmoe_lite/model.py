"""A folder that ``xmoe export`` wrote + a recording -> its answer.

As ``xmoe.predict``: a recording is cut into segments, each is planned, answered and combined by
itself, and the answer is the mean of their calibrated logits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from xmoe_lite.frontend import Frontend, Tables
from xmoe_lite.network import Network, choose_runs, open_session
from xmoe_lite.router import Router, Said
from xmoe_lite.sound import (
    Floats,
    LiteError,
    Span,
    cut_segments,
    cut_spans,
    in_16_bits,
    resample,
)

FORMAT = 1
SHORTEST_S = 0.01
# Spans that meet within this are one piece: edges are floats.
_NEAR_S = 1e-3


class Model:
    """An exported run, ready to answer; a folder that is none, or is torn, raises LiteError."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            record = json.loads((self.folder / "model.json").read_text("utf-8"))
            if record["format"] != FORMAT:
                mend = "take the reader that lies beside it"
                raise LiteError(f"{folder}: written for another reader: {mend}")
            self.classes: list[str] = record["classes"]
            self.exclusive: bool = record["exclusive"]
            self._record = record
            self._edges: list[float] = record["window_edges_s"]
            self._stem = open_session(self.folder / "stem.onnx")
            self._frontend = Frontend(record["stem"], self._tables("stem"))
            router = json.loads((self.folder / "router.json").read_text("utf-8"))
            self._router = Router(router, exclusive=self.exclusive)
            self._temperatures: list[float] = router["temperatures"]
            self._experts = [self._open(expert) for expert in record["experts"]]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            if isinstance(error, LiteError):
                raise
            what = f"no whole folder of xmoe export: {type(error).__name__}: {error}"
            raise LiteError(f"{folder}: {what}: export the run again") from error

    def predict(self, samples: Floats, sample_rate_hz: int) -> dict[str, Any]:
        """The answer to samples [S]: label, probabilities, and experts asked on average."""
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or len(samples) < SHORTEST_S * sample_rate_hz:
            raise LiteError(f"samples of shape {samples.shape} are no 10 ms of one channel")
        if not np.isfinite(samples).all():
            raise LiteError("samples are not finite")
        began = time.perf_counter()
        steps = (self._record["segment_s"], self._record["segment_hop_s"])
        segments = cut_segments(samples, sample_rate_hz, *steps)
        said = [self._answer(segment, sample_rate_hz) for segment in segments]
        logits = np.mean([self._calibrate(one) for one in said], axis=0, dtype=np.float64)
        p = self._probabilities(logits)
        top = int(p.argmax())
        named = [top] if self.exclusive else np.flatnonzero(p >= 0.5)
        return {
            "label": self.classes[top],
            "labels": [self.classes[index] for index in named],
            "probability": float(p[top]),
            "probabilities": dict(zip(self.classes, p.tolist(), strict=True)),
            "uncertain": bool(p[top] < self._record["uncertain_below"]),
            "k": float(np.mean([one.k for one in said])),
            "segments": len(said),
            "seconds": round(time.perf_counter() - began, 6),
        }

    def _answer(self, segment: Floats, rate_hz: int) -> Said:
        frontend = self._frontend
        power = frontend.power(resample(segment, rate_hz, frontend.rate_hz))
        power = power[:, : frontend.num_frames]
        frames = power.shape[1]
        padded = np.pad(power, ((0, 0), (0, frontend.num_frames - frames)))
        fed = {"power": padded[None], "frames": np.array([frames])}
        stem, evidence, scores = self._stem.run(None, fed)
        sound = in_16_bits(segment)

        def ask(index: int) -> Floats:
            return self._experts[index].answer(sound, rate_hz, scores[0, index])

        return self._router.answer(stem[0], evidence[0], ask)

    def _calibrate(self, said: Said) -> Floats:
        last = len(self._temperatures) - 1
        calibrated: Floats = said.logits / np.float32(self._temperatures[min(said.heard, last)])
        return calibrated

    def _probabilities(self, logits: Any) -> Any:
        if not self.exclusive:
            return np.exp(-np.logaddexp(0.0, -logits))
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def _tables(self, part: str) -> Tables:
        path = self.folder / f"{part}.npz"
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)

    def _open(self, record: Mapping[str, Any]) -> _Kernels | _Pretrained:
        part = f"expert-{record['name']}"
        tables = self._tables(part)
        if record["kind"] == "kernels":
            frontend = Frontend(record["frontend"], tables)
            end_s = self._edges[-1]
            return _Kernels(open_session(self.folder / f"{part}.onnx"), frontend, end_s)
        network = Network(record["card"], self.folder / record["folder"], tables)
        return _Pretrained(network, record, self._edges, exclusive=self.exclusive)


class _Kernels:
    """An expert of kind ``kernels``: it hears a whole segment through a front end of its own."""

    def __init__(self, session: Any, frontend: Frontend, end_s: float) -> None:
        self._session, self._frontend, self._end_s = session, frontend, end_s

    def answer(self, sound: Floats, rate_hz: int, scores: Floats) -> Floats:
        frontend = self._frontend
        piece = cut_spans(sound, rate_hz, [(0.0, self._end_s)])[0]
        size = round(frontend.segment_s * rate_hz)
        own = resample(np.pad(piece, (0, max(size - len(piece), 0))), rate_hz, frontend.rate_hz)
        # Of odd rates a sample more or less comes out.
        own = np.pad(own[: frontend.samples], (0, max(frontend.samples - len(own), 0)))
        logits: Floats = self._session.run(None, {"power": frontend.power(own)[None]})[0][0]
        return logits


class _Pretrained:
    """An expert of kind ``backbone``: it hears a segment, or its most salient windows."""

    def __init__(
        self, network: Network, record: Mapping[str, Any], edges: list[float], *, exclusive: bool
    ) -> None:
        self._network, self._edges, self._exclusive = network, edges, exclusive
        self._windows: int | None = record["windows"]
        self._width: int = record["width"]

    def answer(self, sound: Floats, rate_hz: int, scores: Floats) -> Floats:
        pieces = cut_spans(sound, rate_hz, self._spans(scores))
        logits = self._network.score(pieces, rate_hz, apart=self._windows is not None)
        if not self._exclusive:
            return logits
        shifted = logits - logits.max()
        normed: Floats = shifted - np.log(np.exp(shifted).sum())
        return normed

    def _spans(self, scores: Floats) -> list[Span]:
        if self._windows is None:
            return [(0.0, self._edges[-1])]
        spans: list[Span] = []
        for window in choose_runs(scores, self._width, self._windows):
            start, end = self._edges[window], self._edges[window + 1]
            if spans and start - spans[-1][1] < _NEAR_S:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans
