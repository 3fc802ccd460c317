"""Names of experts + a front end -> the records that a run keeps of them."""

from __future__ import annotations

from collections.abc import Iterable

from xmoe.base.config import CnnSpec, ExpertSpec, SpectroConfig
from xmoe.base.units import edges_between
from xmoe.experts.cnn import band_rows
from xmoe.frontend.registry import build_frontend
from xmoe.glance.stem import DECIMATION


def list_specs(names: Iterable[str], spectro: SpectroConfig) -> tuple[ExpertSpec, ...]:
    """Return the experts of those names, each with its band on the stem map of a front end."""
    edges_hz = edges_between(build_frontend(spectro).bin_centers_hz.double().numpy())
    num_rows = spectro.num_bins // DECIMATION
    specs = []
    for name in names:
        first, last = band_rows(name, num_rows)
        low_hz, high_hz = (round(float(edges_hz[row * DECIMATION]), 3) for row in (first, last))
        specs.append(CnnSpec(name=name, band_hz=(low_hz, high_hz)))
    return tuple(specs)
