"""One command line on every set: the mixture, its experts, what it costs, as tables and pictures.

    python benchmarks/real_sets.py --out runs [--data DIR] [--pictures DIR] [--only fsdd ...]

Runs ``xmoe train --dataset DIR --metadata CSV --out RUN`` and nothing else for each set, one after
the other, and prints Markdown tables. A run that is complete is not repeated, one that was cut off
is gone on with. ``--data`` is the folder that holds the sets (``XMOE_DATA`` by default): fsdd,
esc10, insect32 and deepship2, each with manifests of ``filepath,split,label``. The synthetic set of
sparse events is made beside the runs. ``--pictures`` is where each set's curve is drawn.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmoe.base.files import read_json, write_bytes, write_json
from xmoe.base.task import task_of
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import rightness
from xmoe.training.promises import read_table


@dataclass(frozen=True)
class Job:
    """One training: the set, its manifest, what the split asks, and what CNN mixtures scored.

    ``cnn`` is the accuracy in per cent of the mixture of eight CNNs at commit e92cb1b.
    """

    name: str
    folder: str
    manifest: str
    asks: str
    cnn: float


Found = Mapping[str, Mapping[str, Any]]
SPENT = (0.1, 0.2, 0.35, 0.5)  # of the milliseconds of all experts
SPARSE = "synthetic"
ESC10_CNN = (87.5, 88.8, 83.8, 95.0, 88.8)
JOBS = (
    Job("fsdd", "fsdd", "metadata.csv", "official split", 99.3),
    Job("fsdd-speaker", "fsdd", "metadata_speaker.csv", "speakers never heard", 83.2),
    *(
        Job(f"esc10-{i}", "esc10", f"metadata_fold{i}.csv", f"fold {i}", cnn)
        for i, cnn in enumerate(ESC10_CNN, 1)
    ),
    Job("insect32", "insect32", "metadata.csv", "sources never heard", 58.9),
    Job("insect32-official", "insect32", "metadata_official.csv", "official split", 65.3),
    Job("deepship2", "deepship2", "metadata.csv", "recordings never heard", 84.0),
    Job(SPARSE, SPARSE, "metadata.csv", "sparse events in noise", 81.4),
)
MIXTURES = (
    "| set | test split | clips | mixture at its budget % (95 % interval) | mean K | ms | all, %"
    " | K | ms | best expert alone on test % | picked on held-out clips % | ridge % | CNN mixture "
    "before % | minutes to the first run | in all |\n" + "|---" * 15 + "|"
)
ROUTING = (
    "| set | test split | 10 % of the ms: routed / blind / by lot | 20 % | 35 % | 50 % | one expert"
    " dead: mean (worst) | two dead | sets at 90 %: coverage, labels |\n" + "|---" * 9 + "|"
)
NETWORKS = (
    "| set | test split | networks taken | all experts % | windows heard | at 99 %: accuracy | ms "
    "| windows heard | at a quarter of the windows: accuracy |\n" + "|---" * 9 + "|"
)
KEPT, QUARTER = 0.99, 0.25
FOLD = re.compile(r"-\d+$")  # at the end of a job's name


def command(job: Job, data: Path, run: Path, extra: Sequence[str]) -> list[str]:
    """Return the command line of a job; it goes on where a former one was cut off."""
    line = ["xmoe", "train", "--dataset", str(data / job.folder)]
    line += ["--metadata", str(data / job.folder / job.manifest), "--out", str(run), *extra]
    return [*line, "--resume"] if (run / "run_config.json").is_file() else line


def make_sparse(root: Path) -> None:
    """Write the synthetic set where it is not there: 5 s clips with one short event in noise."""
    if (root / "metadata.csv").is_file():
        return
    line = ["xmoe", "synth", str(root), "--sparse", "--clips", "2000", "--quiet"]
    subprocess.run([sys.executable, "-m", *line], check=True, stdout=subprocess.DEVNULL)


def run_job(job: Job, data: Path, run: Path, extra: Sequence[str]) -> dict[str, Any]:
    """Train where it is not done yet; return the figures of the run."""
    if not (run / "wall.json").is_file():
        began = time.monotonic()
        first = _wait_for(command(job, data, run, extra), RunFolder(run), began)
        write_json(
            run / "wall.json", {"minutes": (time.monotonic() - began) / 60, "first": first / 60}
        )
    found = {**read_json(run / "metrics.json"), **read_json(run / "wall.json")}
    sets = run / "conformal.json"
    fit = read_json(run / "closed_form.json")
    experts = read_json(run / "run_config.json")["model"]["experts"]
    return found | {
        "sets": read_json(sets)["measured"] if sets.is_file() else [],
        "prices": fit["prices"],
        "networks": [one["name"] for one in experts if one["kind"] == "backbone"],
        "picked": found["alone"][pick_alone(RunFolder(run))],
    }


def pick_alone(folder: RunFolder) -> str:
    """Return the expert that is right most often alone on clean held-out clips."""
    model = folder.read_config().model
    table = read_table(
        folder.mixture_file(RunFile.HELD_OUT), model.expert_names, task_of(model.task)
    )
    clean = zip(table.experts, table.logits[1:, 0], strict=True)
    right = {name: rightness(said, table.rows, table.task).mean() for name, said in clean}
    return max(right, key=lambda name: float(right[name]))


def _wait_for(line: Sequence[str], run: RunFolder, began: float) -> float:
    """Run a command; return after how many seconds a run that answers was there."""
    print("$", " ".join(line), file=sys.stderr, flush=True)
    first = float("nan")
    with subprocess.Popen([sys.executable, "-m", *line], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if first != first and run.exists("best"):
                first = time.monotonic() - began
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    return first


def mixture_row(job: Job, found: Mapping[str, Any]) -> str:
    """Return a line of the table of mixtures."""
    fixed, ms, alone = found["accuracy_at_fixed_k"], found["ms_at_fixed_k"], found["alone"]
    every = max(fixed, key=int)
    best = max(alone, key=lambda name: (alone[name], name))
    cells = [
        job.folder,
        job.asks,
        str(found["num_clips"]),
        percent(found["accuracy"], found["accuracy_ci"]),
        f"{found['mean_k']:.2f}",
        f"{found['mean_ms']:.1f}",
        f"{100 * fixed[every]:.1f}",
        every,
        f"{ms[every]:.1f}",
        f"{100 * alone[best]:.1f} ({best})",
        f"{100 * found['picked']:.1f}",
        f"{100 * found['baseline_accuracy']:.1f}",
        f"{job.cnn:.1f}",
        f"{found['first']:.1f}",
        f"{found['minutes']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def routing_row(job: Job, found: Mapping[str, Any]) -> str:
    """Return a line of the table of routing."""
    spent = [found["at_share"][f"{share:g}"] for share in SPENT]
    dead = [found["dead"].get(count) for count in ("1", "2")]
    sets = next((one for one in found["sets"] if one["alpha"] == 0.1), None)
    cells = [job.folder, job.asks]
    cells += [
        " / ".join(f"{100 * one[who]:.1f}" for who in ("routed", "blind", "random"))
        for one in spent
    ]
    cells += [f"{100 * d['mean']:.1f} ({100 * d['worst']:.1f})" if d else "" for d in dead]
    cells.append(f"{100 * sets['coverage']:.1f} %, {sets['mean_size']:.2f}" if sets else "")
    return f"| {' | '.join(cells)} |"


def keep_most(found: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the test figures at the cheapest price that keeps 99 % on held-out clips."""
    least = KEPT * max(point["right_clean"] for point in found["prices"])
    good = [point for point in found["prices"] if point["right_clean"] >= least]
    price = min(good, key=lambda point: point["mean_ms"])["price"]
    at_price = [point for point in found["curve"] if point["price"] == price]
    chosen: Mapping[str, float] = at_price[0] if at_price else found["everyone"]
    return chosen


def at_quarter(found: Mapping[str, Any]) -> float:
    """Return the test accuracy at the lowest price that asks for a quarter of all windows."""
    good = [point for point in found["curve"] if point.get("calls", 0.0) <= QUARTER]
    return float(min(good, key=lambda point: point["price"])["accuracy"])


def network_row(job: Job, found: Mapping[str, Any]) -> str:
    """Return a line of the table of pretrained networks."""
    every, most = found["everyone"], keep_most(found)
    cells = [
        job.folder,
        job.asks,
        ", ".join(found["networks"]) or "none",
        f"{100 * every['accuracy']:.1f}",
        f"{every.get('calls', 0.0):.2f}",
        f"{100 * most['accuracy']:.1f}",
        f"{most['mean_ms']:.1f}",
        f"{most.get('calls', 0.0):.2f}",
        f"{100 * at_quarter(found):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def percent(value: float, interval: Sequence[float]) -> str:
    """Return a figure in per cent with its interval."""
    return f"{100 * value:.1f} ({100 * interval[0]:.1f} - {100 * interval[1]:.1f})"


def mean_over_sets(found: Found, read: Callable[[Mapping[str, Any]], float]) -> float:
    """Return the mean of what is read of each set's figures; folds of one set count as one."""
    by_set: dict[str, list[float]] = {}
    for name, figures in found.items():
        by_set.setdefault(FOLD.sub("", name), []).append(read(figures))
    return statistics.mean(statistics.mean(values) for values in by_set.values())


def spend_together(found: Found, share: float) -> tuple[float, float]:
    """Return what a share of the milliseconds of all scores where one price holds for all sets.

    As many clips come from each set, and a millisecond goes where it promises most. Second comes
    what all experts score for clips of any set drawn by lot.
    """

    def mean(read: Callable[[Mapping[str, Any]], float]) -> float:
        return mean_over_sets(found, read)

    points = []
    for place in range(len(next(iter(found.values()))["curve"])):
        ms = mean(lambda f, place=place: f["curve"][place]["mean_ms"])
        points.append((ms, mean(lambda f, place=place: f["curve"][place]["accuracy"])))
    spent = share * mean(lambda f: f["everyone"]["mean_ms"])
    costs, rights = zip(*sorted(points), strict=True)
    ends = [
        (mean(lambda f: f["ms_at_fixed_k"]["0"]), mean(lambda f: f["accuracy_at_fixed_k"]["0"])),
        (mean(lambda f: f["everyone"]["mean_ms"]), mean(lambda f: f["everyone"]["accuracy"])),
    ]
    by_lot = np.interp(spent, *zip(*ends, strict=True))
    return float(np.interp(spent, costs, rights)), float(by_lot)


def say_together(found: Found, every: float) -> str:
    """Return in words what one price for all sets brings; ``every`` is what all experts score."""
    shares = SPENT[1:]  # a tenth is less than the glance costs
    together = [spend_together(found, share) for share in shares]
    return (
        "one price for all sets, as many clips of each: at "
        f"{' / '.join(f'{100 * share:g}' for share in shares)} % of the milliseconds of all "
        f"{' / '.join(f'{100 * routed:.1f}' for routed, _ in together)} % "
        f"({' / '.join(f'{10000 * routed / every:.1f}' for routed, _ in together)} % of the "
        "accuracy of all), by lot "
        f"{' / '.join(f'{100 * by_lot:.1f}' for _, by_lot in together)} %"
    )


def summarise(found: Found) -> list[str]:
    """Return what the sets say together; folds of one set count as one."""

    def mean(read: Callable[[Mapping[str, Any]], float]) -> float:
        return 100 * mean_over_sets(found, read)

    def every(figures: Mapping[str, Any]) -> float:
        fixed = figures["accuracy_at_fixed_k"]
        return float(fixed[max(fixed, key=int)])

    def one_dead(figures: Mapping[str, Any]) -> float:
        dead = figures["dead"].get("1")
        return float(dead["mean"]) if dead else every(figures)

    folds = [figures["accuracy"] for name, figures in found.items() if name.startswith("esc10")]
    lines = [
        f"mean over the sets: mixture at its budget {mean(lambda f: f['accuracy']):.1f} %, all "
        f"experts {mean(every):.1f} %, with one of them dead {mean(one_dead):.1f} %, best "
        f"expert alone {mean(lambda f: max(f['alone'].values())):.1f} %, the one that held-out "
        f"clips would pick {mean(lambda f: f['picked']):.1f} %, ridge "
        f"{mean(lambda f: f['baseline_accuracy']):.1f} %; at 35 % of the milliseconds "
        f"{mean(lambda f: f['at_share']['0.35']['routed']):.1f} %, spent blindly "
        f"{mean(lambda f: f['at_share']['0.35']['blind']):.1f} % (chosen on test "
        f"{mean(lambda f: f['at_share']['0.35']['hindsight']):.1f}), by lot "
        f"{mean(lambda f: f['at_share']['0.35']['random']):.1f} %; at the price that keeps 99 % "
        f"on held-out clips {mean(lambda f: keep_most(f)['accuracy']):.1f} %, at a quarter of the "
        f"networks' windows {mean(at_quarter):.1f} %"
    ]
    lines.append(say_together(found, mean(every)))
    if len(folds) > 1:
        lines.append(
            f"esc10, mean of {len(folds)} folds: {100 * statistics.mean(folds):.1f} % (standard "
            f"deviation over folds {100 * statistics.stdev(folds):.1f})"
        )
    return lines


def draw(found: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Draw the curve of each set."""
    from xmoe.pictures.style import to_png
    from xmoe.report.curves import draw_accuracy_by_ms

    for name, figures in found.items():
        write_bytes(folder / f"curve-{name}.png", to_png(draw_accuracy_by_ms(figures)))


def main() -> None:
    """Run what is asked for, print the tables, and write them beside the runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", nargs="*", help="names of jobs, such as fsdd esc10-1")
    parser.add_argument("extra", nargs="*", help="options for every `xmoe train`, after --")
    options = parser.parse_args()
    jobs = [job for job in JOBS if not options.only or job.name in options.only]
    found = {}
    for job in jobs:
        data = options.out if job.folder == SPARSE else options.data
        if job.folder == SPARSE:
            make_sparse(data / SPARSE)
        run = options.out / (f"{job.name}-run" if job.folder == SPARSE else job.name)
        found[job.name] = run_job(job, data, run, options.extra)
        print(mixture_row(job, found[job.name]), file=sys.stderr, flush=True)
    lines = [MIXTURES, *(mixture_row(job, found[job.name]) for job in jobs), ""]
    lines += [ROUTING, *(routing_row(job, found[job.name]) for job in jobs), ""]
    lines += [NETWORKS, *(network_row(job, found[job.name]) for job in jobs), ""]
    lines += summarise(found)
    text = "\n".join(lines) + "\n"
    write_bytes(options.out / "results.md", text.encode())
    write_json(options.out / "results.json", found)
    if options.pictures:
        draw(found, options.pictures)
    print(text)


if __name__ == "__main__":
    main()
