"""The settings of every stage: one small frozen model each, nested in one ``RunConfig``.

Nothing here touches hardware or the disk. A policy writes these records, a run folder keeps them,
and training, prediction and serving read them back; unknown fields are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xmoe.base.backbone import BackboneCard
from xmoe.base.version import VERSION

FrontendName = Literal["stft", "logmel", "pcen", "cqt", "cwt"]
TaskName = Literal["single_label", "multi_label"]
Device = Literal["auto", "cpu", "cuda"]
SelectorName = Literal["saliency", "cam", "feature", "energy", "random"]
RouterEvidence = Literal["features", "saliency", "belief", "conditions"]
StemKind = Literal["cnn", "kernels"]
# ``gate``: trained by gradient with the experts. ``promise``: fitted on held-out answers.
RouterKind = Literal["gate", "promise"]
FitKind = Literal["closed", "gradient", "both"]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Workers = Count | tuple[Count, Count]

EXPERT_NAMES: tuple[str, ...] = (
    *("broadband", "low", "high", "transient"),
    *("harmonic", "fine_frequency", "mid", "high_band"),
)

# The mean number of experts under the budget ``latency``.
LATENCY_K = 0.5
# At this price an expert that costs a microsecond is asked, whatever it promises.
ASK_ALL = -1000.0
# If less than this share of the planned weight has answered, other experts are asked.
MIN_GATE_MASS = 0.5
# The peak of the one-cycle schedule.
LEARNING_RATE = 4e-3


class Frozen(BaseModel):
    """Base of every record: immutable, no unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpectroConfig(Frozen):
    """The front end: waveform [B, S] at ``sample_rate_hz`` -> spectrogram [B, F, T].

    ``num_bins`` is F. T is ``segment_samples // hop_length + 1`` (centred frames).
    """

    frontend: FrontendName = "logmel"
    sample_rate_hz: int = Field(default=16000, ge=1000, le=384_000)
    fmin_hz: float = Field(default=0.0, ge=0.0)
    fmax_hz: float = Field(default=8000.0, gt=0.0)
    n_fft: int = Field(default=512, ge=32)
    win_length: int = Field(default=400, ge=16)
    hop_length: int = Field(default=160, ge=1)
    num_bins: int = Field(default=64, ge=16)
    segment_s: float = Field(default=1.0, gt=0.0)
    segment_hop_s: float = Field(default=0.5, gt=0.0)
    floor_db: float = Field(default=-80.0, lt=0.0)

    @model_validator(mode="after")
    def _check(self) -> SpectroConfig:
        if not self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"band {self.fmin_hz}-{self.fmax_hz} Hz must rise and stay under Nyquist "
                f"({self.sample_rate_hz / 2} Hz)"
            )
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        if self.segment_samples < self.win_length:
            raise ValueError(f"segment_s {self.segment_s} is shorter than one window")
        return self

    @property
    def segment_samples(self) -> int:
        return round(self.segment_s * self.sample_rate_hz)

    @property
    def num_frames(self) -> int:
        return self.segment_samples // self.hop_length + 1

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate_hz / self.hop_length


class CnnSpec(Frozen):
    """An expert of kind ``cnn``: a small network on some rows of the stem map, by its name."""

    kind: Literal["cnn"] = "cnn"
    name: str
    band_hz: tuple[float, float]

    @model_validator(mode="after")
    def _check(self) -> CnnSpec:
        if self.name not in EXPERT_NAMES:
            raise ValueError(f"unknown expert {self.name!r}; known: {', '.join(EXPERT_NAMES)}")
        if not 0.0 <= self.band_hz[0] < self.band_hz[1]:
            raise ValueError(f"the band of {self.name} must rise: {self.band_hz}")
        return self


class KernelsSpec(Frozen):
    """An expert of kind ``kernels``: its own front end, its number of kernels, and why it exists.

    ``name`` is unique in a mixture, ``family`` one of the eight biases. ``spectro.segment_s`` is
    the length of its spans.
    """

    kind: Literal["kernels"] = "kernels"
    name: str
    family: str
    spectro: SpectroConfig
    kernels: Count = 64
    seed: int = 0
    reason: str = ""

    @property
    def band_hz(self) -> tuple[float, float]:
        return self.spectro.fmin_hz, self.spectro.fmax_hz


class BackboneSpec(Frozen):
    """An expert of kind ``backbone``: a pretrained network with a linear head.

    Its files are in ``folder``, which in a run's settings is within the run. It gets the
    ``windows`` most salient windows of a segment, all of them if None.
    """

    kind: Literal["backbone"] = "backbone"
    name: str
    family: str = "backbone"
    card: BackboneCard
    folder: str = ""
    windows: Count | None = None
    reason: str = ""

    @property
    def band_hz(self) -> tuple[float, float]:
        """The band from 0 Hz to Nyquist of the network, in terms of the recording."""
        return 0.0, self.card.sample_rate_hz * self.card.speed_factor / 2


class NetworkSpec(Frozen):
    """An expert of kind ``network``: a whole mixture of CNNs that was trained by gradient.

    Its input is sound through the front end ``spectro``, and all of its own experts answer.
    """

    kind: Literal["network"] = "network"
    name: str
    family: str = "network"
    spectro: SpectroConfig
    mixture: ModelConfig
    reason: str = ""

    @model_validator(mode="after")
    def _check(self) -> NetworkSpec:
        if self.mixture.hears_sound:
            raise ValueError(f"the experts of {self.name} must be CNNs on the map of its stem")
        return self

    @property
    def band_hz(self) -> tuple[float, float]:
        return self.spectro.fmin_hz, self.spectro.fmax_hz


ExpertSpec = Annotated[
    CnnSpec | KernelsSpec | BackboneSpec | NetworkSpec, Field(discriminator="kind")
]


class ModelConfig(Frozen):
    """The mixture: which experts exist, how many may answer, and the grid of patches.

    With the router ``promise`` the experts are listed in the order in which they are asked.
    """

    task: TaskName = "single_label"
    num_classes: int = Field(default=2, ge=2)
    stem: StemKind = "cnn"
    router: RouterKind = "gate"
    experts: tuple[ExpertSpec, ...] = Field(min_length=1)
    masked_experts: tuple[str, ...] = ()
    expert_priors: dict[str, Positive] = Field(default_factory=dict)
    k_max: int = Field(default=3, ge=0)
    window_frames: int = Field(default=4, ge=1)
    router_evidence: tuple[RouterEvidence, ...] = Field(
        default=("features", "saliency", "belief", "conditions"), min_length=1
    )
    stem_channels: int = Field(default=24, ge=4)
    expert_channels: int = Field(default=48, ge=4)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        names = self.expert_names
        if len(set(names)) != len(names):
            raise ValueError("experts repeat a name")
        if not set(self.masked_experts) <= set(names):
            raise ValueError("masked_experts must be among experts")
        if not set(self.expert_priors) <= set(names):
            raise ValueError("expert_priors must be of experts")
        if len(self.masked_experts) == len(self.experts):
            raise ValueError("at least one expert must stay unmasked")
        if self.k_max > len(self.experts) - len(self.masked_experts):
            raise ValueError("k_max exceeds the number of unmasked experts")
        return self

    @property
    def expert_names(self) -> tuple[str, ...]:
        """Names of the experts in order, and of their weights files."""
        return tuple(spec.name for spec in self.experts)

    @property
    def callable_experts(self) -> tuple[str, ...]:
        """Those that the policy did not mask."""
        return tuple(name for name in self.expert_names if name not in self.masked_experts)

    @property
    def hears_sound(self) -> bool:
        """Whether an expert takes sound, not only the stem map."""
        return any(spec.kind != "cnn" for spec in self.experts)

    def spec_of(self, name: str) -> ExpertSpec:
        for spec in self.experts:
            if spec.name == name:
                return spec
        raise KeyError(name)


# Its mixture may be of any experts but networks, which are declared before it.
NetworkSpec.model_rebuild()


class TrainConfig(Frozen):
    """How the mixture is fitted: in ``closed`` form on held-out answers, by ``gradient``, or
    ``both``: in closed form, then with a network trained by gradient as one more expert.

    Epochs, batches, rates and everything after ``seed`` matter to gradients only; ``epochs=None``
    lets the trainer choose from the set's size. ``num_workers`` is how many share each batch, or
    the fewest and the most that may. ``precision="auto"`` is float32 on a GPU too: the mixture is
    too small for bf16 to be faster (docs/gpu.md).
    """

    fit: FitKind = "gradient"
    epochs: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=LEARNING_RATE, gt=0.0)
    weight_decay: float = Field(default=0.02, ge=0.0)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    mixup: float = Field(default=0.0, ge=0.0, le=1.0)
    augment: bool = True
    ema_decay: float = Field(default=0.99, ge=0.0, lt=1.0)
    seed: int = Field(default=0, ge=0)
    num_workers: Workers = 1
    device: Device = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.fewest_workers > self.most_workers:
            raise ValueError("num_workers must be given as the fewest and the most")
        return self

    @property
    def fewest_workers(self) -> int:
        """The smallest number of workers with which training continues."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def most_workers(self) -> int:
        """The number of workers used if there is room for them."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


class RoutingConfig(Frozen):
    """What validation decided: the price of an expert, where experts look, and calibration.

    ``k_price`` is the gain in probability of being right that one more expert must promise, or one
    more millisecond if ``costs_ms`` gives the cost of each expert, in the order in which they are
    asked; negative if experts are asked even without a promise. ``glance_ms`` is the cost of every
    segment. ``window_fraction`` is the share of time windows that an expert is sent, picked by
    ``selector``. ``temperatures[k]`` divides the logits of an answer that k experts gave.
    """

    budget: str | float = "accuracy"
    k_price: float = 0.0
    costs_ms: tuple[Positive, ...] = ()
    glance_ms: float = Field(default=0.0, ge=0.0)
    selector: SelectorName = "saliency"
    window_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    temperatures: tuple[Positive, ...] = ()
    uncertain_below: float = Field(default=0.0, ge=0.0, le=1.0)
    reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def asks_all(self) -> bool:
        """Whether every expert is asked at once, without waiting for the first answers."""
        return self.k_price <= ASK_ALL


class RunConfig(Frozen):
    """Everything a run folder needs to rebuild its classifier.

    ``schema_version`` rises if older programs would misread a run, or this one an older run;
    ``xmoe_version`` is that of the program that started the run.
    """

    schema_version: Literal[6] = 6
    xmoe_version: str = VERSION
    classes: tuple[str, ...]
    spectro: SpectroConfig
    model: ModelConfig
    train: TrainConfig
    routing: RoutingConfig = RoutingConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if len(self.classes) != self.model.num_classes:
            raise ValueError("classes and model.num_classes disagree")
        if self.spectro.num_bins % 16:
            raise ValueError("spectro.num_bins must be a multiple of 16 for the model's stem")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes repeat a name")
        return self
