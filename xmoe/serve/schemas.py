"""Requests and answers over HTTP as records: unknown fields are refused, examples included."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from xmoe.audio.samples import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from xmoe.base.config import Frozen, SpectroConfig, TaskName
from xmoe.predict.answer import Answer
from xmoe.serve.router.limits import Limits

MAX_JSON_SAMPLES = 2_000_000
Encoding = Literal["pcm_s16le", "pcm_f32le"]

ANSWER_EXAMPLE: dict[str, Any] = {
    "label": "whale",
    "labels": ["whale"],
    "label_id": 1,
    "probability": 0.93,
    "probabilities": {"ship": 0.07, "whale": 0.93},
    "entropy": 0.25,
    "uncertain": False,
    "k": 2.0,
    "experts": [
        {"name": "low", "weight": 0.7, "share": 1.0},
        {"name": "harmonic", "weight": 0.3, "share": 1.0},
    ],
    "segments": 1,
    "degraded": False,
    "missing_experts": [],
    "warnings": [],
    "seconds": 0.012,
    "timing_ms": {"decode": 1.1, "frontend": 2.5, "plan": 3.0, "experts": 4.8, "total": 12.0},
    "request_id": "5f0c2b7d9e3a4c51",
    "run": "exp1",
    "weights_sha256": "9f2c0d5b6a71e83f4c1d2b3a495867708192a3b4c5d6e7f8091a2b3c4d5e6f70",
    "windows": [],
}


class Options(Limits):
    """The options of one request.

    ``hop_s`` is the distance between windows of a long recording; half a window if left out.
    """

    deadline_ms: float | None = Field(default=None, gt=0.0, le=600_000.0)
    explain: bool = False
    hop_s: float | None = Field(default=None, ge=0.01, le=600.0)


class ExplainOptions(Limits):
    """The options of an explanation.

    It explains the segment that starts at ``at_s``, or the one most certain of the answer.
    ``arrays`` adds the spectrogram and the maps themselves, one byte a cell, and an overview of the
    whole recording.
    """

    output: Literal["json", "png"] = "json"
    picture: Literal["gradcam", "saliency_router", "patch_routing", "why_experts", "why_k"] = (
        "gradcam"
    )
    arrays: bool = False
    at_s: float | None = Field(default=None, ge=0.0, le=86_400.0)


class SampleOptions(Options):
    """The options of samples, which do not know their rate."""

    sample_rate_hz: int = Field(ge=LOWEST_RATE_HZ, le=HIGHEST_RATE_HZ)


class SamplesRequest(SampleOptions):
    """A recording as numbers: floats from -1 to 1, one channel."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"samples": [0.0, 0.1, 0.0, -0.1], "sample_rate_hz": 16000, "k_max": 2}]
        }
    )

    samples: list[float] = Field(min_length=1, max_length=MAX_JSON_SAMPLES)


class StreamStart(Limits):
    """The first message of a stream: one channel of PCM follows.

    ``token`` replaces the header that browsers cannot send with a socket.
    """

    sample_rate_hz: int = Field(ge=LOWEST_RATE_HZ, le=HIGHEST_RATE_HZ)
    encoding: Encoding
    hop_s: float | None = Field(default=None, ge=0.01, le=10.0)
    deadline_ms: float | None = Field(default=None, gt=0.0, le=600_000.0)
    token: str | None = Field(default=None, max_length=4096)

    @property
    def options(self) -> Options:
        return Options(k_max=self.k_max, budget=self.budget, deadline_ms=self.deadline_ms)


class WindowAnswer(Frozen):
    """The answer to one segment of a longer recording."""

    start_s: float
    end_s: float
    label: str
    probability: float
    k: int


class EventAnswer(Frozen):
    """Adjacent segments in which a class is probable; a background class is no event."""

    start_s: float
    end_s: float
    label: str
    probability: float


class ClassifyAnswer(Answer):
    """The answer to one recording.

    ``timing_ms`` holds decode, frontend, plan, experts and total. Recordings of several segments
    have ``windows`` and ``events``. ``run`` and ``weights_sha256`` say what answered, as in the
    description of the model.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER_EXAMPLE]})

    timing_ms: dict[str, float] = Field(default_factory=dict)
    request_id: str = ""
    run: str = ""
    weights_sha256: str = ""
    windows: tuple[WindowAnswer, ...] = ()
    events: tuple[EventAnswer, ...] = ()
    explanation: dict[str, Any] | None = None


class BatchItem(Frozen):
    """One recording of a batch: its answer, or why there is none."""

    index: int
    answer: ClassifyAnswer | None = None
    error: dict[str, str] | None = None


class BatchAnswer(Frozen):
    """Answers to a batch in the order of its recordings."""

    answers: tuple[BatchItem, ...]
    failed: int


class ExpertDescription(Frozen):
    """One expert: its kind, its front end in words, the band it sees, and why it is there or not.

    ``ms`` is its cost per segment where the run was trained, null if not measured. ``licence`` and
    ``source`` are those of a pretrained network.
    """

    name: str
    kind: str
    front_end: str
    licence: str | None = None
    source: str | None = None
    band_hz: tuple[float, float]
    ms: float | None = None
    masked: bool
    prior: float
    reason: str = ""


class RequestLimits(Frozen):
    """What a request may cost."""

    max_body_bytes: int
    max_duration_s: float
    max_samples: int
    max_files: int
    max_windows: int
    deadline_ms: float
    max_deadline_ms: float


class TrainingSummary(Frozen):
    """The data set that the run was trained on, in short."""

    clips: int
    duration_s: float
    sample_rates_hz: dict[int, int]
    effective_band_hz: tuple[float, float]
    quality: float
    snr_db: float | None
    clips_by_class: dict[str, int]


class SampleDescription(Frozen):
    """A recording of the test split that the run keeps: ``/v1/samples/N`` by its place."""

    labels: tuple[str, ...]
    seconds: float


class ModelDescription(Frozen):
    """What is served.

    ``weights_sha256`` is the sum of the checkpoint's manifest, which lists the sums of all weights.
    ``glance_ms`` is what every segment costs before an expert is asked, null if not measured.
    ``corrections`` says what is kept of a recording whose answer a user corrects.
    """

    name: str
    version: str
    task: TaskName
    labels: tuple[str, ...]
    frontend: SpectroConfig
    experts: tuple[ExpertDescription, ...]
    k_max: int
    budget: str | float
    glance_ms: float | None = None
    window_fraction: float
    selector: str
    topology: str
    limits: RequestLimits
    run: str = ""
    weights_sha256: str = ""
    training: TrainingSummary | None = None
    samples: tuple[SampleDescription, ...] = ()
    corrections: Literal["off", "hash", "sound"] = "off"
    routing_reasons: dict[str, str] = Field(default_factory=dict)


class Readiness(Frozen):
    """Whether every expert answered a real inference."""

    ready: bool
    experts: dict[str, str]
