"""All settings of serving: one frozen record, checked where it enters; unknown names are refused.

The same record is read from the command line, from ``serve deploy`` files and in tests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from xmoe.base.config import MIN_GATE_MASS, Frozen

Topology = Literal["distributed", "colocated"]
TOKEN_VARIABLE = "XMOE_TOKEN"  # noqa: S105  (the name of a variable)
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]
Host = Annotated[str, Field(pattern=r"^(\*|[a-z0-9.:_-]+)$")]
Address = Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$")]


class ReplicaSettings(Frozen):
    """What Ray must find free on a node for each replica, and how many threads one has.

    ``memory_mb`` is as ``xmoe size`` measures it; custom ``resources`` are those that nodes were
    started with.
    """

    num_cpus: float = Field(default=0.1, ge=0.0)
    num_gpus: float = Field(default=0.0, ge=0.0)
    memory_mb: float | None = Field(default=None, gt=0.0)
    resources: dict[str, float] = Field(default_factory=dict)
    threads: int = Field(default=1, ge=1)


class ExpertDeployment(ReplicaSettings):
    """How one expert is deployed: replicas, queues and how fast it scales.

    ``target_ongoing_requests`` counts stacked calls, each of up to ``max_rows`` of the router.
    ``max_queued_requests`` bounds the calls that one router replica holds back for this expert.
    """

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=1.0, gt=0.0)
    max_ongoing_requests: int = Field(default=4, ge=1)
    max_queued_requests: int = Field(default=32, ge=1)
    upscale_delay_s: float = Field(default=2.0, ge=0.0)
    downscale_delay_s: float = Field(default=60.0, ge=0.0)
    look_back_period_s: float = Field(default=5.0, gt=0.0)
    metrics_interval_s: float = Field(default=1.0, gt=0.0)
    health_check_period_s: float = Field(default=2.0, gt=0.0)
    health_check_timeout_s: float = Field(default=10.0, gt=0.0)


class RouterSettings(ReplicaSettings):
    """How the router works: replicas, batches, queues.

    ``max_rows`` bounds the segments of one micro-batch; ``max_waiting`` the segments that wait for
    one; ``max_call_bytes`` the payload of one call to an expert. Recordings of up to
    ``small_samples`` are decoded in the event loop itself. Each replica works on up to
    ``max_ongoing_requests`` and lets ``max_queued_requests`` wait. ``replicas`` None is one, or
    with the experts inside (``colocated``, no GPU) one per processor, four at most: each is a
    process.
    """

    replicas: int | None = Field(default=None, ge=1)
    max_rows: int = Field(default=32, ge=1)
    max_waiting: int = Field(default=1024, ge=1)
    max_call_bytes: int = Field(default=3 << 20, ge=1 << 10)
    max_ongoing_requests: int = Field(default=64, ge=1)
    max_queued_requests: int = Field(default=128, ge=1)
    decode_threads: int = Field(default=2, ge=1)
    small_samples: int = Field(default=1 << 15, ge=0)
    num_cpus: float = Field(default=0.2, ge=0.0)


class FaultSettings(Frozen):
    """How failing experts are handled.

    A request has ``deadline_ms`` unless it asks otherwise, at most ``max_deadline_ms``. An answer
    needs ``min_gate_mass`` of the planned weight; below it the next experts are asked, and then the
    request is refused. After ``breaker_failures`` in a row no request waits for an expert; every
    ``breaker_open_s`` a copy of a call finds out whether it is back.
    """

    deadline_ms: float = Field(default=2000.0, gt=0.0)
    max_deadline_ms: float = Field(default=25_000.0, gt=0.0)
    min_gate_mass: float = Field(default=MIN_GATE_MASS, ge=0.0, le=1.0)
    first_round_share: float = Field(default=0.6, gt=0.0, le=1.0)
    retries: int = Field(default=1, ge=0, le=3)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_open_s: float = Field(default=2.0, gt=0.0)
    retry_after_s: int = Field(default=1, ge=1)


class HttpSettings(Frozen):
    """What a request may cost, and who may ask.

    Each replica reads tokens from ``token_file``, or from the environment variable
    ``token_variable`` where it is set (``guard.tokens``); without one, every request is answered.
    The longest recording, ``max_duration_s``, fits ``max_body_bytes`` and ``max_samples`` as 16-bit
    WAV of one channel at 48 kHz. Numbers in JSON take ten times their bytes once parsed, so their
    bodies have a limit of their own; all bodies of a router together hold ``max_held_bytes``. A
    stream may be ``max_ahead_s`` ahead of its answers, and no more than ``max_stream_bytes`` as
    float32. Pages of other sites may ask where ``allow_origins`` names them
    (``https://host:port``). Without a token a request must name this machine as its host, that of
    ``public_url`` or one of ``allow_hosts`` (without port; ``*`` is any). ``public_url`` is where
    clients find the service, if a proxy gives it another address; no header of a proxy is trusted.
    """

    max_body_bytes: int = Field(default=64 << 20, ge=1)
    max_json_bytes: int = Field(default=16 << 20, ge=1)
    max_held_bytes: int = Field(default=1 << 30, ge=1)
    body_timeout_s: float = Field(default=10.0, gt=0.0)
    request_timeout_s: float = Field(default=30.0, gt=0.0)
    decode_timeout_s: float = Field(default=5.0, gt=0.0)
    max_duration_s: float = Field(default=600.0, gt=0.0)
    max_samples: int = Field(default=28_800_000, ge=1)
    max_files: int = Field(default=32, ge=1)
    max_windows: int = Field(default=2048, ge=1)
    max_streams: int = Field(default=16, ge=1)
    max_stream_s: float = Field(default=3600.0, gt=0.0)
    max_stream_bytes: int = Field(default=8 << 20, ge=1)
    max_ahead_s: float = Field(default=10.0, gt=0.0)
    idle_timeout_s: float = Field(default=30.0, gt=0.0)
    token_file: str | None = None
    token_variable: str = TOKEN_VARIABLE
    allow_origins: tuple[Origin, ...] = ()
    public_url: Address = ""
    allow_hosts: tuple[Host, ...] = ()


class DriftSettings(Frozen):
    """Whether and how incoming recordings are compared with the training recordings.

    The last ``window`` recordings are compared, and judged once there are ``at_least`` as many. Of
    a busy stream only ``max_per_second`` are measured.
    """

    enabled: bool = True
    window: int = Field(default=1000, ge=1, le=1_000_000)
    at_least: int = Field(default=50, ge=1)
    max_per_second: float = Field(default=10.0, gt=0.0)


class CorrectionSettings(Frozen):
    """Whether users may confirm or correct answers, and what is kept of the recordings.

    They are written to ``folder``, a path that all routers share; left out, to the run's own folder
    where that is local and writable. Sounds are kept only with ``keep_sounds``. The folder holds at
    most ``max_mb``.
    """

    enabled: bool = True
    folder: str | None = None
    keep_sounds: bool = False
    max_mb: int = Field(default=1000, ge=1)


class ServeSettings(Frozen):
    """Everything that a served run is built from; ``run`` is a path, or an s3:// or gs:// address.

    ``experts`` replaces ``expert`` for the experts that it names. While a deployment is replaced,
    ``surge_percent`` more of its replicas may live than usual; at 0 old ones go before new ones
    come. Replicas that start ``gently`` take turns, and routers wait for experts: for upgrades.
    ``registry`` is the folder of an application's versions, written by `xmoe deploy`. ``logs`` is
    how replicas write them: ``json`` has a line for each request, and its id in each line.
    """

    run: str
    which: Literal["best", "last"] = "best"
    topology: Topology = "distributed"
    surge_percent: int = Field(default=100, ge=0, le=100)
    gently: bool = False
    registry: str | None = None
    logs: Literal["text", "json"] = "text"
    router: RouterSettings = RouterSettings()
    expert: ExpertDeployment = ExpertDeployment()
    experts: dict[str, ExpertDeployment] = Field(default_factory=dict)
    faults: FaultSettings = FaultSettings()
    http: HttpSettings = HttpSettings()
    drift: DriftSettings = DriftSettings()
    corrections: CorrectionSettings = CorrectionSettings()

    def deployment_of(self, name: str) -> ExpertDeployment:
        return self.experts.get(name, self.expert)
