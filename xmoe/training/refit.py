"""Features that are there + experts that are taken -> the mixture fitted anew, in seconds.

Whoever is taken stays: no candidate is looked for. Heads of the same features are the same to the
bit, so what an expert that is added changes are weights and promises alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xmoe.base.config import BackboneSpec
from xmoe.base.progress import Progress, silent
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.records import StackRow
from xmoe.training.closed import (
    ClosedJob,
    Fitted,
    by_name,
    fit_heads,
    hold_out,
    measure_costs,
    read_targets,
    stack_depths,
    stem_spec,
)
from xmoe.training.dear import select_in_tiers
from xmoe.training.ears import SoundSpec
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
    """Fit heads and weights of ``specs`` to ``features``; ``record`` is that of the run so far.

    ``order_anew`` orders experts as a search among them would, and tells what each gains.
    """
    stem, known = stem_spec(job.spectro), by_name(specs)
    targets, plan, judged = read_targets(job, features, stem)
    heads = fit_heads(features, {STEM_NAME: stem, **known}, targets, progress)
    ms = measure_costs(specs, job, progress)
    units = plan.units[features.owners]
    held = hold_out(heads, targets, units)
    names, rows = list(known), [StackRow.model_validate(row) for row in record["candidates"]]
    if order_anew:
        dear = [spec.name for spec in specs if isinstance(spec, BackboneSpec)]
        names, rows = order_experts(held, ms, dear if len(dear) < len(specs) else [], rows)
    return Fitted(
        job=job,
        specs=tuple(known[name] for name in names),
        features=features,
        targets=targets,
        units=units,
        heads=heads,
        ms=ms,
        stacks=stack_depths(held, names),
        rows=tuple(rows),
        dropped=record["dropped"],
        judged=judged,
        sources=plan.words,
    )


def order_experts(
    held: HeldOut, ms: Mapping[str, float], dear: Sequence[str], rows: Sequence[StackRow]
) -> tuple[list[str], list[StackRow]]:
    """Return experts in the order of a search among them, and the table with their rows renewed.

    Who would not have been taken comes last, as before; so do the ``dear``, with their own.
    """
    selection, first, added = select_in_tiers(held, ms, dear=dear, always=[STEM_NAME])
    others = [row for row in rows if row.name not in ms]
    passed = [name for name in ms if name not in (*first, *added)]
    cheap = [name for name in [*first, *passed] if name not in dear]
    return [*cheap, *added, *(n for n in passed if n in dear)], [*selection.rows, *others]
