"""A recording -> why it was answered so, as numbers or as a picture.

Explanations look inside every expert, so the whole model is loaded here, and only when the first
one is asked for.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.artifacts import Which
from xmoe.config import RunConfig
from xmoe.explain.numbers import to_record
from xmoe.explain.reasons import Reasons, Subject, find_reasons
from xmoe.predict import Predictor
from xmoe.serve.source import open_run
from xmoe.training.store import measure_power

PICTURES = ("gradcam", "saliency_router", "patch_routing")


class Explainer:
    """Explains answers of one run with the whole model in this process."""

    def __init__(self, run: str, config: RunConfig, *, which: Which = "best") -> None:
        self._run = run
        self._config = config
        self._which: Which = which
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None

    def _load(self) -> Predictor:
        with self._lock:
            if self._predictor is None:
                experts = (f"expert-{name}" for name in self._config.model.experts)
                folder = open_run(self._run, ["stem", "router", *experts], which=self._which)
                self._predictor = Predictor.load(folder.path, which=self._which)
            return self._predictor

    def explain(self, samples: npt.NDArray[np.float32], sample_rate_hz: int) -> dict[str, Any]:
        """Return the explanation of a recording [S] as numbers."""
        return to_record(self._find(samples, sample_rate_hz))

    def draw(self, samples: npt.NDArray[np.float32], sample_rate_hz: int, picture: str) -> bytes:
        """Return one of ``PICTURES`` of a recording [S] as PNG."""
        from xmoe.explain.render import draw_answer, draw_router_saliency, draw_routing
        from xmoe.pictures.style import to_png

        draws = dict(zip(PICTURES, (draw_answer, draw_router_saliency, draw_routing), strict=True))
        reasons = self._find(samples, sample_rate_hz)
        with self._lock:  # matplotlib is not made for threads
            return to_png(draws[picture](reasons))

    def _find(self, samples: npt.NDArray[np.float32], sample_rate_hz: int) -> Reasons:
        predictor = self._load()
        config = predictor.config
        subject = Subject(predictor.model, predictor.frontend, config.routing, config.classes)
        power = measure_power(samples, sample_rate_hz, predictor.frontend)
        specs = predictor.specs_of_power(power)
        with self._lock:  # gradients of one clip at a time
            segment = surest_segment(predictor, specs)
            start_s = predictor.segment_start_s(power.shape[1], segment)
            return find_reasons(subject, specs[segment], start_s=start_s)


def surest_segment(predictor: Predictor, specs: Tensor) -> int:
    """Return which of the segments [n, F, T] is surest of the recording's answer."""
    answers = predictor.answer_segments(specs)
    top = int(predictor.probabilities(answers.logits).argmax())
    return int(torch.log_softmax(answers.logits, 1)[:, top].argmax())
