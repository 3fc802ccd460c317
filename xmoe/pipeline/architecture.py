"""A fitted classifier -> pages of text: what it is made of and costs, and which experts it asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from xmoe.base.config import ExpertSpec
from xmoe.base.units import format_hz
from xmoe.experts.protocol import Expert
from xmoe.glance.stem import stem_columns
from xmoe.predict.predictor import Predictor

UNKNOWN = "what a mean answer costs was not measured since the run was changed"


def count_weights(module: nn.Module) -> int:
    """How many numbers it keeps: fitted to recordings, or drawn at random."""
    return sum(value.numel() for value in module.state_dict().values())


def describe_architecture(predictor: Predictor, macs: Mapping[str, float]) -> str:
    """The page; ``macs`` are millions of multiply-accumulates per segment by part."""
    config, model = predictor.config, predictor.model
    spectro, routing = config.spectro, config.routing
    columns = stem_columns(spectro.num_frames)
    told = "mean_answer" in macs
    unit = "a millisecond" if routing.costs_ms else "an expert"
    evidence = f"evidence: {', '.join(config.model.router_evidence)}; "
    if config.model.router == "promise":
        evidence = ""  # what its promises read is said below
    lines = [
        f"xmoe {config.model.task}, {len(config.classes)} classes: {', '.join(config.classes)}",
        "",
        f"front end  {spectro.frontend}: {spectro.segment_s:g} s at "
        f"{format_hz(spectro.sample_rate_hz)} -> [{spectro.num_bins}, {spectro.num_frames}], "
        f"{format_hz(spectro.fmin_hz)} to {format_hz(spectro.fmax_hz)}, "
        f"window {spectro.win_length}, hop {spectro.hop_length} samples",
        f"stem       -> [{config.model.stem_channels}, {model.stem.num_rows}, {columns}], "
        f"{count_weights(model.stem):,} weights, {macs['stem']:.2f} MMAC",
        f"router     {evidence}{count_weights(model.router):,} weights; K from 0 to "
        f"{config.model.k_max}, price of {unit} {routing.k_price:g}",
        f"where      {routing.window_fraction:g} of the windows of {config.model.window_frames} "
        f"columns, by {routing.selector}",
        "experts",
    ]
    lines += [_describe_expert(predictor, spec, macs) for spec in config.model.experts]
    lines += [
        "",
        f"weights in all {count_weights(model):,}; "
        + (f"a mean answer costs {macs['mean_answer']:.2f} MMAC per segment" if told else UNKNOWN),
    ]
    lines += [f"{name}: {reason}" for name, reason in sorted(routing.reasons.items())]
    return "\n".join(lines) + "\n"


def _describe_expert(predictor: Predictor, spec: ExpertSpec, macs: Mapping[str, float]) -> str:
    name, masked = spec.name, spec.name in predictor.config.model.masked_experts
    low, high = map(format_hz, spec.band_hz)
    expert = predictor.model.experts[name]
    assert isinstance(expert, Expert)
    state = f"{macs[name]:.2f} MMAC" if name in macs else "MMAC not known"
    state = "masked" if masked else state
    return (
        f"  {name:<15} {spec.kind}: {low} to {high}, {expert.describe()}, "
        f"{count_weights(expert):,} weights, {state}"
    )


def describe_usage(usage: dict[str, Any]) -> str:
    rates, weights = usage["selection_rate"], usage["mean_weight"]
    lines = [f"{'expert':<16}{'asked':>8}{'mean weight':>14}"]
    lines += [
        f"{name:<16}{rates[name]:>8.1%}{weights[name]:>14.3f}"
        for name in sorted(rates, key=lambda name: -rates[name])
    ]
    counts = ", ".join(f"K = {k}: {count}" for k, count in usage["k_histogram"].items())
    lines += [f"mean K {usage['mean_k']:.2f} ({counts}); load balance {usage['load_balance']:.2f}"]
    return "\n".join(lines) + "\n"
