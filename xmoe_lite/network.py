"""Pieces of sound -> windows of a pretrained network -> logits [C] of its linear head.

``xmoe.backbones`` and ``xmoe.experts.backbone`` in numpy, for files in ONNX and LiteRT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from xmoe_lite.frontend import Tables
from xmoe_lite.sound import Floats, LiteError, Span, cut_spans, resample

Runner = Callable[[Floats], Floats]

_QUIET = 1e-9
# Of the head: features beyond as many deviations say no more.
_REACH = 3.0
_LEAST_LENGTH = 1e-6
# A remainder below this is rounding, not sound.
_EPSILON_S = 1e-9


def open_session(path: Path) -> Any:
    """Open an ONNX file for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes differ from version to version
        raise LiteError(f"{path}: not readable as ONNX: {error}: export the run again") from error


def _open_onnx(path: Path, file: Mapping[str, Any]) -> Runner:
    session = open_session(path)

    def run(values: Floats) -> Floats:
        result: Floats = session.run([file["output"]], {file["input"]: values})[0]
        return result

    return run


def _open_litert(path: Path, file: Mapping[str, Any]) -> Runner:
    """What runs a LiteRT file whose first output is the one that is read."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        mend = "pip install ai-edge-litert, or export a run without this expert"
        raise LiteError(f"{path.name} is a LiteRT file: {mend}") from error
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    fed = interpreter.get_input_details()[0]["index"]

    def run(values: Floats) -> Floats:
        interpreter.resize_tensor_input(fed, values.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(fed, values)
        interpreter.invoke()
        result: Floats = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return result

    return run


class Network:
    """A network by its card, its files in ``folder``, and the ``head``: weight and bias."""

    def __init__(self, card: Mapping[str, Any], folder: Path, head: Tables) -> None:
        opener = _open_onnx if card["format"] == "onnx" else _open_litert
        self.card, self._head = card, head
        self._steps = [
            (file, opener(folder / file["path"], file))
            for file in card["files"]
            if file["output"] is not None
        ]
        self._window = round(card["window_s"] * card["sample_rate_hz"])
        self._least = round((card["least_s"] or card["window_s"]) * card["sample_rate_hz"])

    def score(self, pieces: Sequence[Floats], rate_hz: int, *, apart: bool) -> Floats:
        """Scores [C]; windows overlap as the card says, or lie ``apart`` in each piece."""
        windows = [window for piece in pieces for window in self._cut(piece, rate_hz, apart)]
        table = np.concatenate(
            [
                self._embed([window for window in windows if len(window) == length])
                for length in sorted({len(window) for window in windows})
            ]
        )
        missing = np.isnan(table)
        with np.errstate(invalid="ignore"):  # where every window is, so is the score
            mean = np.where(missing, 0, table).sum(0) / (~missing).sum(0)
            pools = {"mean": mean, "max": np.where(missing, -np.inf, table).max(0)}
            features = np.concatenate([pools[name] for name in self.card["pooling"]])
            features = (features / max(float(np.linalg.norm(features)), 1e-12)).astype(np.float32)
            scores = _apply_head(self._head, features)
        return np.asarray(scores)

    def _cut(self, samples: Floats, rate_hz: int, apart: bool) -> list[Floats]:
        card, pace = self.card, self.card["speed_factor"]
        own_hz, duration_s = card["sample_rate_hz"], len(samples) / rate_hz
        own = resample(samples, round(rate_hz / pace), own_hz)
        spans = _spread(duration_s, card) if apart else _overlap(duration_s, card)
        edge = 0 if apart else round(card["edge_s"] * own_hz)
        margin_s = edge / own_hz
        paced = [(margin_s + start * pace, margin_s + end * pace) for start, end in spans]
        cuts = cut_spans(np.pad(own, edge), own_hz, paced)
        return [cut[: self._window] for cut in cuts]

    def _embed(self, windows: Sequence[Floats]) -> Floats:
        """The embeddings [n, D] of windows of one length."""
        sound, most = self._fit(np.stack(windows)), self.card["most_batch"]
        parts = []
        for first in range(0, len(sound), most):
            values = sound[first : first + most]
            for file, runner in self._steps:
                values = _run_file(file, runner, values)
            parts.append(values.reshape(len(values), -1))
        return np.concatenate(parts)

    def _fit(self, sound: Floats) -> Floats:
        """Windows [n, S] at the level and of the length that the network takes."""
        kind = self.card["normalise"]
        if kind != "none":
            level = np.abs(sound).max(1) if kind == "peak" else np.sqrt((sound**2).mean(1))
            sound = (sound / np.where(level < _QUIET, 1.0, level)[:, None]).astype(np.float32)
        missing = ((0, 0), (0, max(self._least - sound.shape[1], 0)))
        return np.pad(sound, missing, "wrap" if self.card["padding"] == "repeat" else "constant")


def _apply_head(head: Mapping[str, Floats], features: Floats) -> Floats:
    """Scores [C] of features [D], which are scaled, limited and damped before."""
    scaled = ((features - head["mean"]) / head["deviation"]).clip(-_REACH, _REACH)
    scaled /= np.sqrt(max(float(np.linalg.norm(scaled)), _LEAST_LENGTH))
    scores: Floats = scaled @ head["weight"] + head["bias"]
    return scores


def _run_file(file: Mapping[str, Any], runner: Runner, values: Floats) -> Floats:
    fed = (file["scale"] * values + file["offset"]).astype(np.float32, copy=False)
    fed = fed.reshape(len(values), *file["shape"][1:])
    size = 1 if file["one_by_one"] else len(fed)
    parts = [runner(fed[first : first + size]) for first in range(0, len(fed), size)]
    result = np.concatenate(parts).astype(np.float32, copy=False)
    return result.mean(axis=tuple(file["mean_over"])) if file["mean_over"] else result


def _overlap(duration_s: float, card: Mapping[str, Any]) -> list[Span]:
    """Windows of a grid, the last one aligned to the end."""
    pace = card["speed_factor"]
    span_s, margin_s = card["window_s"] / pace, card["edge_s"] / pace
    step_s = (card["hop_s"] or card["window_s"] / 2) / pace
    first_s, end_s = -margin_s, duration_s + margin_s
    if end_s - first_s <= span_s + _EPSILON_S:
        return [(first_s, end_s)]
    last_s = end_s - span_s
    steps = int((last_s - first_s - _EPSILON_S) / step_s) + 1
    starts = [first_s + step * step_s for step in range(steps)] + [last_s]
    return [(start, start + span_s) for start in starts]


def _spread(duration_s: float, card: Mapping[str, Any]) -> list[Span]:
    """As many windows as fit a duration best, side by side."""
    span_s = card["window_s"] / card["speed_factor"]
    if duration_s <= span_s:
        return [(0.0, duration_s)]
    count, last_s = max(round(duration_s / span_s), 1), duration_s - span_s
    starts = np.linspace(0.0, last_s, count).tolist() if count > 1 else [last_s / 2]
    return [(start, start + span_s) for start in starts]


def choose_runs(scores: Floats, width: int, count: int) -> list[int]:
    """The ``count`` best runs of ``width`` windows of scores [N] as rising indices.

    Runs do not overlap; one that no longer fits beside those before it is the first one again.
    """
    total = len(scores)
    if width * count >= total:
        return list(range(total))
    sums = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    free = sums[width:] - sums[:-width]
    runs: list[int] = []
    for _ in range(count):
        place = int(free.argmax())
        runs.append(place if np.isfinite(free[place]) else runs[0])
        free[max(place - width + 1, 0) : place + width] = -np.inf
    return sorted(place + step for place in runs for step in range(width))
