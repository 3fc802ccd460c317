"""What the reader needs beside the graphs: records for JSON, and tables for ``.npz`` files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from xmoe.base.config import RoutingConfig
from xmoe.frontend.base import Frontend
from xmoe.frontend.cqt import Cqt
from xmoe.frontend.cwt import Cwt
from xmoe.frontend.stft import FilteredStft
from xmoe.mixture.promise_router import PromiseRouter

Record = dict[str, Any]
Tables = Mapping[str, npt.NDArray[Any]]


def describe_frontend(frontend: Frontend) -> tuple[Record, Tables]:
    """How a front end makes power of samples (``xmoe_lite.frontend``)."""
    config = frontend.config
    record: Record = {
        "sample_rate_hz": config.sample_rate_hz,
        "hop_length": config.hop_length,
        "segment_s": config.segment_s,
        "num_frames": config.num_frames,
    }
    tables: dict[str, Tensor]
    if isinstance(frontend, FilteredStft):
        record |= {"kind": "stft", "first_bin": frontend.first_bin}
        tables = {"window": frontend.window, "filters": frontend.filters}
    else:
        assert isinstance(frontend, Cqt | Cwt)
        wavelet = isinstance(frontend, Cwt)
        record |= {"kind": "cwt" if wavelet else "cqt", "reach_s": frontend.reach_s}
        tables = {
            "centers_hz": frontend.centers_hz,
            "half_band_hz": frontend.half_band_hz,
            "widths": frontend.deviations_hz if isinstance(frontend, Cwt) else frontend.lengths_s,
        }
    return record, {name: table.numpy() for name, table in tables.items()}


def describe_router(router: PromiseRouter, routing: RoutingConfig, first_most: int) -> Record:
    names = ("shares", "mean", "scale", "weights", "bias", "allowed")
    record = {name: getattr(router, name).tolist() for name in names}
    most = len(router.shares) - 1
    steps = routing.costs_ms or (1.0,) * most
    return record | {
        "costs": np.cumsum([0.0, *steps], dtype=np.float32)[: most + 1].tolist(),
        "price": routing.k_price,
        "first_most": most if routing.asks_all else first_most,
        "temperatures": list(routing.temperatures or (1.0,) * (most + 1)),
    }
