"""Features at hand + the experts already taken -> the mixture fitted anew, in seconds.

Experts that were taken stay; only pretrained networks on offer are searched. Heads of the same
features are equal to the bit, so an added expert changes weights and promises alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xmoe.base.config import BackboneSpec
from xmoe.base.progress import Progress, silent
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.records import StackRow, number_rows
from xmoe.routing.stack import Stack
from xmoe.training.closed import (
    ClosedJob,
    Fitted,
    by_name,
    fit_all_heads,
    hold_out,
    measure_costs,
    read_targets,
    stack_depths,
    weigh_by_depth,
)
from xmoe.training.dear import select_beside, select_in_tiers
from xmoe.training.ears import SoundSpec, StemSpec
from xmoe.training.kernel_features import Features
from xmoe.training.stack import HeldOut


def refit(
    job: ClosedJob,
    features: Features,
    specs: Sequence[SoundSpec],
    record: Mapping[str, Any],
    *,
    order_anew: bool = False,
    progress: Progress = silent,
) -> Fitted:
    """Fit heads and weights of ``specs`` to ``features``; ``record`` is the run's so far.

    ``order_anew`` orders experts as a search among them would, and tells what each gains.
    """
    fitted, held = _fit_all(job, features, specs, record, progress)
    names: Sequence[str] = fitted.names
    rows: Sequence[StackRow] = fitted.rows
    if order_anew:
        dear = list_dear(specs)
        dear = dear if len(dear) < len(specs) else []
        searched = _hold_search(job, features, specs, record, progress) or held
        names, rows = order_experts(searched, fitted.ms, dear, rows)
    return _take(fitted, stack_depths(held, names), rows)


def refit_beside(
    job: ClosedJob,
    features: Features,
    specs: Sequence[SoundSpec],
    record: Mapping[str, Any],
    *,
    progress: Progress = silent,
) -> Fitted:
    """Fit ``specs``, and of the pretrained networks among them take those that a fit would take.

    The others stay in their order.
    """
    fitted, held = _fit_all(job, features, specs, record, progress)
    dear = list_dear(specs)
    first = [name for name in fitted.names if name not in dear]
    rows = [row for row in fitted.rows if row.name not in dear]
    searched = _hold_search(job, features, specs, record, progress) or held
    if first:
        costs = {name: fitted.ms[name] for name in dear}
        selection, _, added = select_beside(searched, costs, rows, first, [STEM_NAME])
        return _take(fitted, weigh_by_depth(held, first, added), selection.rows)
    selection, taken, _ = select_in_tiers(searched, fitted.ms, dear=[], always=[STEM_NAME])
    return _take(fitted, weigh_by_depth(held, taken), [*selection.rows, *rows])


def list_dear(specs: Sequence[SoundSpec]) -> list[str]:
    return [spec.name for spec in specs if isinstance(spec, BackboneSpec)]


def _fit_all(
    job: ClosedJob,
    features: Features,
    specs: Sequence[SoundSpec],
    record: Mapping[str, Any],
    progress: Progress,
) -> tuple[Fitted, HeldOut]:
    """The experts in the order given, without weights, and their held-out answers."""
    stem = StemSpec(spectro=job.spectro)
    targets, plan, judged, first = read_targets(job, features, stem)
    features, heads = fit_all_heads(job, features, specs, targets, progress, first=first)
    fitted = Fitted(
        job=job,
        specs=tuple(specs),
        features=features,
        targets=targets,
        units=plan.units[features.owners],
        heads=heads,
        ms=measure_costs(specs, job, progress),
        stacks=(),
        rows=tuple(StackRow.model_validate(row) for row in record["candidates"]),
        dropped=record["dropped"],
        judged=judged,
        sources=plan.words,
        speeds=record.get("speeds", ""),
    )
    return fitted, hold_out(heads, targets, fitted.units)


def _hold_search(
    job: ClosedJob,
    features: Features,
    specs: Sequence[SoundSpec],
    record: Mapping[str, Any],
    progress: Progress,
) -> HeldOut | None:
    """Held-out answers as a search knows them, or None: its heads are fitted on no copies."""
    if features.copied is None:
        return None
    return _fit_all(job, replace(features, copied=None, focus={}), specs, record, progress)[1]


def _take(fitted: Fitted, stacks: tuple[Stack, ...], rows: Sequence[StackRow]) -> Fitted:
    """The fit with the experts that have weights in the last of ``stacks``."""
    names, known = list(stacks[-1].weights), by_name(fitted.specs)
    return replace(
        fitted,
        specs=tuple(known[name] for name in names if name != STEM_NAME),
        heads={name: fitted.heads[name] for name in names},
        stacks=stacks,
        rows=number_rows(rows, stacks[-1].weights),
    )


def order_experts(
    held: HeldOut, ms: Mapping[str, float], dear: Sequence[str], rows: Sequence[StackRow]
) -> tuple[list[str], list[StackRow]]:
    """Experts in the order of a search among them, and the table with their rows renewed.

    Experts that the search would not take come last, as before; so do the ``dear``.
    """
    selection, first, added = select_in_tiers(held, ms, dear=dear, always=[STEM_NAME])
    others = [row for row in rows if row.name not in ms]
    passed = [name for name in ms if name not in (*first, *added)]
    cheap = [name for name in [*first, *passed] if name not in dear]
    return [*cheap, *added, *(n for n in passed if n in dear)], [*selection.rows, *others]
