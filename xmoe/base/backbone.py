"""What a pretrained network is: ``backbone.json``, a card beside its files.

A card says how sound becomes an embedding: rate, windows, the input of each file and which of its
outputs is read, and whose weights these are. Nothing is guessed from the files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pooling = Literal["mean", "max"]

# Environment variable: comma-separated names of cards whose files may run code.
TRUST = "XMOE_TRUST"

Positive = Annotated[float, Field(gt=0.0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneFile(_Frozen):
    """One file of a network: ``path``, from the card's folder, its hash, and how it is run.

    Its input ``input`` is ``scale * x + offset`` in ``shape``, whose first -1 is the batch and
    whose other one, if any, the rest; ``output`` is a name, or the index of an inner tensor,
    averaged over the axes ``mean_over``. ``one_by_one``: a network that mixes its batch gets one
    window at a time. A file without ``output`` is only there for the others.
    """

    path: str = Field(min_length=1)
    sha256: Sha256
    input: str = ""
    output: str | int | None = None
    shape: tuple[int, ...] = Field(default=(-1, -1), min_length=2)
    scale: float = 1.0
    offset: float = 0.0
    mean_over: tuple[int, ...] = ()
    one_by_one: bool = False

    @model_validator(mode="after")
    def _check(self) -> BackboneFile:
        if self.shape[0] != -1 or self.shape.count(-1) > 2 or 0 in self.shape:
            raise ValueError(f"shape {self.shape} is not -1 (the batch) and sizes, at most one -1")
        return self


class BackboneCard(_Frozen):
    """A pretrained network: float32 [b, n] at ``sample_rate_hz`` -> embeddings [b, D].

    ``format`` is a name that ``xmoe.backbones`` knows. Files run one after another, each on the
    output of the one before. A window lasts ``window_s``; if ``least_s`` is given, sound down to
    that length is not padded. Windows are ``hop_s`` apart, half a window by default. Sound is
    played ``speed_factor`` times slower than it was recorded (below 1: faster), which brings
    ultrasound into the band: times here are the network's. ``pooling`` makes one vector from those
    of several windows. ``golden`` are the first numbers for a known sound
    (``xmoe.backbones.check``): a wrong rate, scale or level changes them.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern="^[a-z0-9][a-z0-9_.-]*$", max_length=64)
    format: str = Field(pattern="^[a-z0-9_]+$", max_length=64)
    files: tuple[BackboneFile, ...] = Field(min_length=1)
    sample_rate_hz: int = Field(ge=1000, le=384_000)
    window_s: Positive
    least_s: Positive | None = None
    hop_s: Positive | None = None
    edge_s: float = Field(default=0.0, ge=0.0)
    speed_factor: Positive = 1.0
    normalise: Literal["none", "peak", "rms"] = "none"
    padding: Literal["silence", "repeat"] = "silence"
    embedding_size: int = Field(ge=1)
    pooling: tuple[Pooling, ...] = Field(default=("mean", "max"), min_length=1)
    most_batch: int = Field(default=16, ge=1)
    golden: tuple[float, ...] = ()
    remote_code: bool = False
    licence: str = Field(min_length=1)
    non_commercial: bool = False
    source: str = Field(min_length=1)
    trained_on: str = ""

    @model_validator(mode="after")
    def _check(self) -> BackboneCard:
        if self.least_s is not None and self.least_s > self.window_s:
            raise ValueError(f"least_s {self.least_s} is longer than window_s {self.window_s}")
        if all(file.output is None for file in self.files):
            raise ValueError("no file names the output that is read")
        return self

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)

    @property
    def least_samples(self) -> int:
        """Samples of the shortest sound that is not padded."""
        return round((self.least_s or self.window_s) * self.sample_rate_hz)

    @property
    def span_s(self) -> float:
        """Seconds of a recording in a window."""
        return self.window_s / self.speed_factor

    @property
    def step_s(self) -> float:
        """Seconds of a recording from one window to the next."""
        return (self.hop_s or self.window_s / 2) / self.speed_factor

    @property
    def margin_s(self) -> float:
        """Seconds of silence before and after a recording."""
        return self.edge_s / self.speed_factor

    @property
    def terms(self) -> str:
        """Whose weights these are, with a warning if commercial use is not allowed."""
        warning = ": NOT FOR COMMERCIAL USE" if self.non_commercial else ""
        return f"{self.licence}{warning}  ({self.source})"

    @property
    def num_features(self) -> int:
        """Inputs of a head, whatever the number of windows: each pooling of each number."""
        return self.embedding_size * len(self.pooling)
