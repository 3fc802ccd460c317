"""What a GPU makes of xmoe: front ends, kernels, training and answers, each beside the CPU.

    python benchmarks/gpu.py [--device cuda] [--only frontends ...] [--minutes 7.5] [--out FILE]
    python benchmarks/gpu.py --quick --device cpu

Prints one row of a markdown table as soon as it is measured: rates of the CPU and of the card, and
the largest difference between their answers beside what is allowed. Exits 1 where a difference is
larger. Input is synthetic and Ray is not needed. Rates are medians over rounds, the card's work
waited for. Differences are absolute, for training those of the gradient over its length. What no
longer fits into ``--minutes`` is left out and said so; ``--out`` writes the table and, beside it,
the same as JSON. ``--quick`` is a smoke run with tiny sizes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from gpu_bench import (
    CPU,
    Bench,
    Row,
    arithmetic,
    differ,
    failed,
    make_config,
    make_sound,
    note_busy,
)
from gpu_training import fit, measure_training
from torch import Tensor, nn

import xmoe.experts.kernel_bank as kernel_bank
import xmoe.predict.predictor as predicting
from xmoe.base.layers import fold_norms
from xmoe.frontend.registry import FRONTENDS, build_frontend

COMPILE_S = 30.0  # what a compilation may take, for the deadline


def measure_copy(bench: Bench) -> Iterator[Row]:
    """Bytes a second of a copy within the device's memory, read and written."""
    rates = [copy_rate(bench, device) for device in (CPU, bench.device)]
    yield Row("copy within memory", "GB/s", *rates)


def copy_rate(bench: Bench, device: torch.device) -> float:
    """Return GB/s, of a copy that no cache holds."""
    source = torch.rand(bench.size(1 << 28, 1 << 20), device=device)
    target = torch.empty_like(source)
    return bench.rate(lambda: target.copy_(source), 8 * len(source), device) / 1e9


def measure_frontends(bench: Bench) -> Iterator[Row]:
    """Each front end, sound [B, S] to compressed spectrogram, plain and compiled."""
    bound = copy_rate(bench, bench.device)
    with arithmetic(tf32=False), torch.inference_mode():
        for name in FRONTENDS:
            config = make_config(bench, name).spectro
            few = make_sound(bench.size(64, 4), config.segment_samples)
            frontend = build_frontend(config).eval()
            expected = frontend(few)
            cpu = bench.rate(lambda f=frontend, x=few: f(x), len(few), CPU)
            moved = copy.deepcopy(frontend).to(bench.device)
            x = few.to(bench.device)
            many = x.repeat(bench.size(16, 1), 1)
            moved_bytes = 4 * (x.shape[1] + expected[0].numel())
            for label, run in compiled_or_not(bench, moved):
                try:
                    difference = differ(run(x), expected)
                    card = bench.rate(lambda r=run, m=many: r(m), len(many), bench.device)
                except Exception as error:
                    if not label:
                        raise
                    yield failed(f"{name}{label}", error)
                    continue
                share = card * moved_bytes / 1e9 / bound
                note = f"{card * moved_bytes / 1e9:.3g} GB/s of sound and rows, {share:.1%} of copy"
                yield Row(f"{name}{label}", "clips/s", cpu, card, difference, 2e-3, note)


def compiled_or_not(bench: Bench, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a module as it is and, where a compiler is worth its time, compiled."""
    yield "", module
    if not bench.quick and bench.left_s() > COMPILE_S:
        torch._dynamo.reset()
        yield ", compiled", torch.compile(module, dynamic=False)


def measure_kernels(bench: Bench) -> Iterator[Row]:
    """Random-kernel features of spectrograms, by how many are in the card's hands at once."""
    config = make_config(bench).spectro
    bank, frontend = kernel_bank.KernelBank(), build_frontend(config).eval()
    sound = make_sound(bench.size(64, 4), config.segment_samples)
    specs = frontend(sound)
    expected = bank.measure(specs)
    cpu = bench.rate(lambda: bank.measure(specs), len(specs), CPU)
    x = specs.to(bench.device).repeat(bench.size(16, 1), 1, 1)
    asis, frames = kernel_bank._GPU_FRAMES, specs.shape[2]
    with arithmetic(tf32=False):
        for at_once in (16, 64, asis // frames):
            kernel_bank._GPU_FRAMES = at_once * frames
            difference = differ(bank.measure(x)[: len(specs)], expected)
            card = bench.rate(lambda: bank.measure(x), len(x), bench.device)
            what = f"kernels, {at_once} clips at once"
            yield Row(what, "clips/s", cpu, card, difference, 2e-2, note_kernels(bench, bank))
        kernel_bank._GPU_FRAMES = asis
        moved, heard = copy.deepcopy(frontend).to(bench.device), sound.to(bench.device)
        heard = heard.repeat(bench.size(16, 1), 1)
        cpu = bench.rate(lambda: bank.measure(frontend(sound)), len(sound), CPU)
        card = bench.rate(lambda: bank.measure(moved(heard)), len(heard), bench.device)
        difference = differ(bank.measure(moved(heard[: len(sound)])), expected)
        yield Row("sound to kernel features", "clips/s", cpu, card, difference, 2e-2)


def note_kernels(bench: Bench, bank: kernel_bank.KernelBank) -> str:
    """Return what one cell's sign is worth in a feature of this bank."""
    config = make_config(bench).spectro
    rows = math.ceil(config.num_bins / kernel_bank.STRIDE) // kernel_bank.NUM_BANDS
    cells = rows * math.ceil(config.num_frames / kernel_bank.STRIDE)
    return f"one cell's sign is {1 / cells:.1e} of its feature; D {bank.num_features(64)}"


@torch.inference_mode()
def plan_and_answer(predictor: predicting.Predictor, specs: Tensor) -> tuple[Tensor, Tensor]:
    """Return each clip's plan [B, .] as numbers, and its probabilities [B, C]."""
    model, routing = predictor.model, predictor.config.routing
    plan, inputs = model.prepare(specs.to(predictor.device), routing)
    asked = plan.weights > 0
    windows = torch.where(asked.unsqueeze(2), plan.windows, -1).flatten(1)
    p = model.task.probabilities(model.carry_out(plan, inputs).logits.float())
    return windows.cpu(), p.cpu()


def measure_answers(bench: Bench) -> Iterator[Row]:
    """Answers of the mixture with K = 3 and a quarter of the windows, as batch inference asks."""
    config, model = make_config(bench), fit(bench)
    fold_norms(model)
    here = predicting.Predictor(config, copy.deepcopy(model).cpu())
    there = predicting.Predictor(config, model, device=bench.device)
    sound = make_sound(bench.size(512, 32), config.spectro.segment_samples)
    with torch.inference_mode():
        specs = torch.cat([here.frontend(part) for part in sound.split(64)])
    plans, expected = plan_and_answer(here, specs)
    cpu = bench.rate(lambda: here.answer_segments(specs), len(specs), CPU)
    many = specs.repeat(bench.size(8, 1), 1, 1)
    half = torch.autocast(bench.device.type, torch.bfloat16)
    modes = (("fp32", False, nullcontext(), 2e-3), ("tf32", True, nullcontext(), 2e-2))
    for name, tf32, how, allowed in (*modes, ("bf16", False, half, 0.1)):
        with arithmetic(tf32), how:
            found_plans, found = plan_and_answer(there, specs)
            same = (found_plans == plans).all(1)
            difference = differ(found[same], expected[same])
            note = compare_answers(same, found, expected)
            for there.batch in (predicting.BATCH, predicting.GPU_BATCH)[: bench.size(2, 1)]:
                rate = bench.rate(lambda: there.answer_segments(many), len(many), bench.device)
                what = f"answers in batches of {there.batch}, {name}"
                busy = note_busy(
                    lambda: there.answer_segments(many), bench.device, len(many) / rate
                )
                yield Row(what, "clips/s", cpu, rate, difference, allowed, f"{note}; {busy}")
    yield from measure_whole(bench, here, there, sound)


def compare_answers(same: Tensor, found: Tensor, expected: Tensor) -> str:
    """Return how many clips have another plan or another label, and how far answers are then."""
    label = (found.argmax(1) == expected.argmax(1)).double().mean()
    plan = same.double().mean()
    return f"same plan {plan:.1%}, same label {label:.1%}, over all {differ(found, expected):.1e}"


@torch.inference_mode()
def measure_whole(
    bench: Bench, here: predicting.Predictor, there: predicting.Predictor, sound: Tensor
) -> Iterator[Row]:
    """From sound to answers, with the front end where it is now, and on the card."""
    front = copy.deepcopy(here.frontend).to(bench.device)
    many = sound.repeat(bench.size(8, 1), 1)
    heard = many.to(bench.device)

    def measured(clips: Tensor) -> Tensor:
        return torch.cat([here.frontend(part) for part in clips.split(64)])

    cpu = bench.rate(lambda: here.answer_segments(measured(sound)), len(sound), CPU)
    works = {
        "front end on the CPU": lambda: there.answer_segments(measured(many)),
        "front end on the card": lambda: there.answer_segments(front(heard)),
    }
    for where, work in works.items():
        rate = bench.rate(work, len(many), bench.device)
        yield Row(f"sound to answers, {where}", "clips/s", cpu, rate, note="TF32 in convolutions")


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "copy": measure_copy,
    "frontends": measure_frontends,
    "kernels": measure_kernels,
    "answers": measure_answers,
    "training": measure_training,
}


def guarded(name: str, bench: Bench) -> Iterator[Row]:
    """Yield the rows of a section; where it ends in an error, a last row that is not sound."""
    try:
        yield from SECTIONS[name](bench)
    except Exception as error:
        traceback.print_exc()
        yield replace(failed(name, error), difference=math.nan, allowed=0.0)


def write(out: Path | None, bench: Bench, rows: list[Row]) -> None:
    """Write what there is so far, as markdown and as JSON."""
    if out is None:
        return
    out.write_text("\n".join([*head(bench), *(line(row.cells()) for row in rows), ""]))
    known = {"card": bench.card, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    out.with_suffix(".json").write_text(json.dumps(known, indent=1))


def head(bench: Bench) -> list[str]:
    """Return the heading of the table."""
    columns = ["what", "unit", "CPU", bench.card, "ratio", "largest difference", "note"]
    threads = f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"
    return [threads, "", line(columns), "|" + "---|" * len(columns)]


def line(cells: list[str]) -> str:
    """Return a row of markdown."""
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measure, print, and return 1 where the card does not answer as the CPU does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --quick --device cpu is a smoke run")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else options.device
    if options.quick:
        torch.set_num_threads(1)
    ends = time.perf_counter() + 60 * options.minutes
    bench = Bench(device, card, options.quick, 0.02 if options.quick else 1.0, ends)
    print("\n".join(head(bench)), flush=True)
    rows: list[Row] = []
    for name in options.only:
        for row in guarded(name, bench):
            print(line(row.cells()), flush=True)
            rows.append(row)
            write(options.out, bench, rows)
    broken = [row.what for row in rows if not row.sound]
    print(f"\nparity: {'broken in ' + ', '.join(broken) if broken else 'holds'}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
