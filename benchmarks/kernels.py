"""Experts that see different things, in closed form: what each adds, what promises save.

    python benchmarks/kernels.py --cache DIR [--data DIR] [--only fsdd-speaker esc10-1 ...]

For each real set: candidates from the policy's front end, their features (kept in ``--cache``),
ridge heads with held-out answers by source, forward selection, stack weights, promises. Everything
is chosen on training and validation clips; test clips are answered once. Prints the table of
candidates, one line per mixture, and accuracy against milliseconds by promise and at random.
``--data`` is the folder of the sets (``XMOE_DATA`` by default).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from real_sets import JOBS, Job

from xmoe.audio.dataset import Dataset, Example, load_dataset
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.files import write_json
from xmoe.base.progress import show_progress
from xmoe.base.task import task_of
from xmoe.experts.kernels import KernelsEar, KernelsSpec, measure_ms
from xmoe.experts.ridge import Floats
from xmoe.glance.evidence import measure_conditions
from xmoe.policy.families import BASE, list_families
from xmoe.policy.policy import choose_policy
from xmoe.profile.assemble import profile_dataset
from xmoe.routing.promise import describe_answer
from xmoe.routing.stack import Stack
from xmoe.training.gate import try_gate
from xmoe.training.heads import HeadFit, Targets, fit_head
from xmoe.training.hold_out import HoldOut, choose_judges, plan_hold_out
from xmoe.training.kernel_features import CopyName, Features, copy_clip, measure_features, seed_of
from xmoe.training.promise import (
    PRICES,
    SHOWN_SHARES,
    Depths,
    choose_first_most,
    cross_fit,
    fit_promises,
    measure_point,
    random_right,
    right_at,
    route,
    trace_curve,
)
from xmoe.training.stack import HeldOut, Selection, fit_stack, select_experts

MOST_LOST = 0.005


@dataclass(frozen=True)
class Fitted:
    """One set with heads for all candidates; ``test`` holds their logits on test clips."""

    dataset: Dataset
    specs: tuple[KernelsSpec, ...]
    ms: Mapping[str, float]
    fit: Features
    plan: HoldOut
    targets: Targets
    heads: Mapping[str, HeadFit]
    test: Mapping[str, Floats]
    truth: Floats
    fresh: tuple[Example, ...]


def prepare(job: Job, data: Path, cache: Path) -> Fitted:
    """Measure and fit every candidate of a set; what is in the cache is not measured again."""
    dataset = load_dataset(data / job.folder, data / job.folder / job.manifest)
    with show_progress() as progress:
        profile = profile_dataset(dataset, workers=2).profile
        spectro = choose_policy(profile, method="rule").spectro
        known = [*dataset.split("train"), *dataset.split("val")]
        specs, _ = list_families(spectro)
        place = cache / "features"
        fit = measure_features(dataset, known, specs, cache=place, progress=progress)
        fresh = measure_features(
            dataset, dataset.split("test"), specs, cache=place, progress=progress
        )
    task, classes = task_of(dataset.task), len(dataset.classes)
    rows = task.rows(dataset.targets(fit.examples), classes)
    plan = plan_hold_out(fit.examples)
    targets = Targets(rows, plan.groups, np.ones(len(rows), dtype=bool), task)
    first = fit_head(fit.table(specs[0]), targets)
    judges, words = choose_judges(plan, is_right(first.held_out, rows, dataset.task))
    print(f"\n## {job.name}: {job.asks}\n\n{words}; {len(rows)} clips, {judges.sum()} judge\n")
    targets = Targets(rows, plan.groups, judges, task)
    heads, test = {}, {}
    for spec in specs:
        head = fit_head(fit.table(spec), targets)
        test[spec.name] = head.answer(fresh.table(spec))
        heads[spec.name] = replace(head, problem=None)
    length_s = profile.total_duration_s / profile.num_clips
    ms = {
        spec.name: measure_ms(spec, sample_rate_hz=profile.fs_mode_hz, duration_s=length_s)
        for spec in specs
    }
    truth = task.rows(dataset.targets(fresh.examples), classes)
    return Fitted(dataset, tuple(specs), ms, fit, plan, targets, heads, test, truth, fresh.examples)


def is_right(logits: Floats, rows: Floats, task: str) -> Floats:
    """Return how right each answer is [n]."""
    right = task_of(task).rightness(torch.from_numpy(logits), torch.from_numpy(rows))
    return right.double().numpy()


def hold(fitted: Fitted) -> HeldOut:
    """Return the held-out answers of the clips that judge."""
    judges = fitted.targets.judges
    return HeldOut(
        {name: head.held_out[judges] for name, head in fitted.heads.items()},
        fitted.targets.rows[judges],
        fitted.plan.units[judges],
        fitted.targets.task,
    )


def show_candidates(selection: Selection) -> None:
    """Print what became of every candidate."""
    print("| candidate | ms | alone, nats | gain, nats | taken | weight | why |\n|" + "---|" * 7)
    for row in selection.rows:
        print(
            f"| {row.name} | {row.ms:.2f} | {row.alone:.3f} | {row.gain:+.4f} +- {row.gain_se:.4f} "
            f"| {row.place or ''} | {row.weight:.2f} | {row.reason} |"
        )


def show_mixtures(fitted: Fitted, held: HeldOut, selection: Selection) -> dict[str, float]:
    """Print test accuracy and cost of baseline, best single expert, and stacks; return figures."""
    names = list(fitted.heads)
    best = min(names, key=lambda name: held.losses(held.logits[name]).mean())
    everyone = fit_stack(held, names)
    lines = {
        "ridge on the base front end": ([BASE], fitted.test[BASE]),
        f"best single on held-out: {best}": ([best], fitted.test[best]),
        "stack of selected": (
            list(selection.stack.weights),
            selection.stack.combine(fitted.test),
        ),
        "stack of all": (names, everyone.combine(fitted.test)),
    }
    print("\n| answer by | test accuracy % | log loss | experts | ms per clip |\n|" + "---|" * 5)
    figures = {}
    for (words, (used, logits)), key in zip(
        lines.items(), ("base", "single", "selected", "all"), strict=True
    ):
        right = 100 * is_right(logits, fitted.truth, fitted.dataset.task).mean()
        ms = sum(fitted.ms[name] for name in used)
        loss = HeldOut({}, fitted.truth, np.arange(len(logits)), held.task).losses(logits).mean()
        print(f"| {words} | {right:.1f} | {loss:.3f} | {len(used)} | {ms:.1f} |")
        figures |= {key: right, f"{key}_ms": ms}
    figures |= show_dead(fitted, selection.stack)
    return figures


def show_dead(fitted: Fitted, stack: Stack) -> dict[str, float]:
    """Print what the mixture scores with any one expert dead, on average and at worst."""
    rights = []
    for dead in stack.weights:
        left = {name: fitted.test[name] for name in stack.weights if name != dead}
        if left:
            answers = is_right(stack.combine(left), fitted.truth, fitted.dataset.task)
            rights.append(100 * answers.mean())
    if not rights:
        return {}
    print(f"\none expert dead: {np.mean(rights):.1f} on average, {min(rights):.1f} at worst")
    return {"one_dead": float(np.mean(rights)), "one_dead_worst": float(min(rights))}


def listen(fitted: Fitted, examples: Sequence[Example], copy: CopyName) -> Floats:
    """Return the recording conditions [n, 8] of clips, as the base front end sees them."""
    ear = KernelsEar(fitted.specs[0])
    rows = []
    for example, clip in load_clips(fitted.dataset, examples):
        assert not isinstance(clip, AudioError)
        samples = copy_clip(clip, copy, seed=seed_of(example))
        rows.append(measure_conditions(ear.see(samples, clip.sample_rate_hz)[0][None])[0])
    return torch.stack(rows).double().numpy()


def describe_depths(
    logits: Mapping[str, Floats],
    stacks: Sequence[Stack],
    conditions: Floats,
    rows: Floats,
    task: str,
) -> tuple[list[Floats], Floats]:
    """Return the evidence [n, G] and how right the answer is [n, K + 1] at every depth."""
    of = task_of(task)
    glance = describe_answer([logits[BASE]], logits[BASE], of)
    evidence, right = [], []
    for stack in stacks:
        mixed = stack.combine(logits)
        own = describe_answer([logits[name] for name in stack.weights], mixed, of)
        parts = [own, conditions] if len(stack.weights) == 1 else [own, glance, conditions]
        evidence.append(np.concatenate(parts, axis=1))
        right.append(is_right(mixed, rows, task))
    return evidence, np.stack(right, axis=1)


def show_routing(
    fitted: Fitted, held: HeldOut, selection: Selection, cache: Path
) -> dict[str, float]:
    """Print accuracy against cost on test, by promise in one round and two, and at random."""
    order = [name for name in selection.stack.weights if name != BASE]
    if not order:
        return {}
    stacks = [fit_stack(held, [BASE, *order[:depth]]) for depth in range(len(order) + 1)]
    judges = np.flatnonzero(fitted.targets.judges)
    examples = [fitted.fit.examples[row] for row in judges]
    task, rows, units = fitted.dataset.task, held.rows, held.units
    heard, fresh = listen(fitted, examples, "whole"), listen(fitted, fitted.fresh, "whole")
    show_gate(fitted, held, selection.stack, heard, fresh)
    clean = describe_depths(held.logits, stacks, heard, rows, task)
    noisy_logits = answer_noisy(fitted, [BASE, *order], cache)
    noisy = describe_depths(noisy_logits, stacks, listen(fitted, examples, "noisy"), rows, task)
    costs = tuple(fitted.ms[name] for name in order)
    both = Depths(
        tuple(order),
        costs,
        tuple(np.concatenate(pair) for pair in zip(clean[0], noisy[0], strict=True)),
        np.concatenate([clean[1], noisy[1]]),
        np.concatenate([units, units]),
    )
    tested = describe_depths(fitted.test, stacks, fresh, fitted.truth, task)
    test = Depths(tuple(order), costs, tuple(tested[0]), tested[1], np.arange(len(tested[1])))
    return show_curves(both, test, fitted.ms[BASE])


def show_gate(fitted: Fitted, held: HeldOut, stack: Stack, heard: Floats, fresh: Floats) -> None:
    """Print whether a gate on recording conditions beats fixed weights on sources left out."""
    gated, trial = try_gate(held, stack, heard)
    print(f"\ngate on recording conditions: {trial.reason}")
    if trial.taken:
        answers = gated.combine(fitted.test, fresh)
        right = is_right(answers, fitted.truth, fitted.dataset.task)
        print(f"with the gate: {100 * right.mean():.1f} %")


def answer_noisy(fitted: Fitted, names: Sequence[str], cache: Path) -> dict[str, Floats]:
    """Return held-out logits of noisy copies of the clips that judge, by the experts ``names``."""
    judges = fitted.targets.judges
    specs = [spec for spec in fitted.specs if spec.name in names]
    copies = measure_features(
        fitted.dataset, fitted.fit.examples, specs, cache=cache / "features", copies=("noisy",)
    )
    answers = {}
    for spec in specs:
        head = fit_head(fitted.fit.table(spec), fitted.targets)
        answers[spec.name] = head.answer_copies(copies.table(spec, "noisy"), fitted.plan.groups)[
            judges
        ]
    return answers


def show_curves(known: Depths, test: Depths, base_ms: float) -> dict[str, float]:
    """Print the curve on test clips and what the price chosen on held-out clips brings there."""
    every = sum(known.costs_ms)
    traced = cross_fit(known)
    best = choose_first_most(traced, known) if traced else len(known.order)
    promises = fit_promises(known, first_most=best)
    everyone = [(np.arange(len(test.right)), promises)]
    figures: dict[str, float] = {"first_round": best}
    curves = {rounds: trace_curve(everyone, test, PRICES, rounds=rounds) for rounds in (1, 2)}
    print(
        f"\nglance {base_ms:.1f} ms, then {', '.join(known.order)}; the first round asks at most "
        f"{best}\n\n| share of the experts' ms | one round | two rounds | at random |\n|"
        + "---|"
        * 4
    )
    for share in SHOWN_SHARES:
        cells = [100 * right_at(curves[rounds], share * every) for rounds in (1, 2)]
        blind = 100 * random_right(test, share * every)
        print(f"| {share:.0%} | {cells[0]:.1f} | {cells[1]:.1f} | {blind:.1f} |")
        figures |= {f"routed_{share:g}": cells[1], f"random_{share:g}": blind}
    limited = [(rows, one.model_copy(update={"first_most": best})) for rows, one in traced]
    curve = trace_curve(limited, known, PRICES)
    top = max(point.right for point in curve)
    price = max(point.price for point in curve if point.right >= top - MOST_LOST)
    point = measure_point(test, route(promises, test, price=price), price)
    blind = random_right(test, point.mean_ms)
    print(
        f"\nat the price of held-out clips ({price:.4g}): {100 * point.right:.1f} % with "
        f"{point.mean_k:.2f} experts, {base_ms + point.mean_ms:.1f} of {base_ms + every:.1f} ms "
        f"(at random {100 * blind:.1f} %, all {100 * test.right[:, -1].mean():.1f} %)"
    )
    return figures | {
        "routed": 100 * point.right,
        "routed_ms": base_ms + point.mean_ms,
        "every_ms": base_ms + every,
        "random": 100 * blind,
        "every": 100 * float(test.right[:, -1].mean()),
    }


def main() -> None:
    """Fit, select, stack and route on every set asked for; write the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of jobs, such as fsdd esc10-1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for job in JOBS:
        if options.only and job.name not in options.only:
            continue
        began = time.monotonic()
        fitted = prepare(job, options.data, options.cache)
        held = hold(fitted)
        selection = select_experts(held, fitted.ms)
        show_candidates(selection)
        figures[job.name] = show_mixtures(fitted, held, selection)
        figures[job.name] |= show_routing(fitted, held, selection, options.cache)
        print(f"\n{(time.monotonic() - began) / 60:.1f} min", flush=True)
        write_json(options.cache / "figures" / f"{job.name}.json", figures[job.name])


if __name__ == "__main__":
    main()
