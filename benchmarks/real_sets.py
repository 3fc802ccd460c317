"""One command line on every real data set: accuracy, mean K, epochs and minutes as one table.

    python benchmarks/real_sets.py --out runs [--data DIR] [--only fsdd ...]

Runs ``xmoe train --dataset DIR --metadata CSV --out RUN`` and nothing else for each set, one after
the other, and prints a Markdown table. A run that is complete is not repeated, one that was cut off
is gone on with. ``--data`` is the folder that holds the sets (``XMOE_DATA`` by default): fsdd,
esc10, insect32 and deepship2, each with manifests of ``filepath,split,label``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmoe.base.files import read_json, write_bytes, write_json


@dataclass(frozen=True)
class Job:
    """One training: the set, its manifest, and what the split asks."""

    name: str
    folder: str
    manifest: str
    asks: str


JOBS = (
    Job("fsdd", "fsdd", "metadata.csv", "official split"),
    Job("fsdd-speaker", "fsdd", "metadata_speaker.csv", "speakers never heard in training"),
    *(Job(f"esc10-{i}", "esc10", f"metadata_fold{i}.csv", f"fold {i}") for i in range(1, 6)),
    Job("insect32", "insect32", "metadata.csv", "sources never heard in training"),
    Job("insect32-official", "insect32", "metadata_official.csv", "official split"),
    Job("deepship2", "deepship2", "metadata.csv", "recordings never heard in training"),
)


def command(job: Job, data: Path, run: Path, extra: Sequence[str]) -> list[str]:
    """Return the command line of a job; it goes on where a former one was cut off."""
    line = ["xmoe", "train", "--dataset", str(data / job.folder)]
    line += ["--metadata", str(data / job.folder / job.manifest), "--out", str(run), *extra]
    return [*line, "--resume"] if (run / "run_config.json").is_file() else line


def run_job(job: Job, data: Path, run: Path, extra: Sequence[str]) -> dict[str, Any]:
    """Train where it is not done yet; return the figures of the run."""
    if not (run / "wall.json").is_file():
        began = time.monotonic()
        line = command(job, data, run, extra)
        print("$", " ".join(line), file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", *line], check=True, stdout=subprocess.DEVNULL)
        write_json(run / "wall.json", {"minutes": (time.monotonic() - began) / 60})
    return {
        **read_json(run / "metrics.json"),
        **read_json(run / "wall.json"),
        "spectro": read_json(run / "spectro_config.json"),
        "routing": read_json(run / "run_config.json")["routing"],
    }


def row(job: Job, found: dict[str, Any]) -> str:
    """Return one line of the table."""
    spectro, routing = found["spectro"], found["routing"]
    front = f"{spectro['frontend']} {spectro['sample_rate_hz'] / 1000:g} kHz"
    fixed = found["accuracy_at_fixed_k"]
    most = fixed[max(fixed)]
    cells = [
        job.folder,
        job.asks,
        str(found["num_clips"]),
        percent(found["accuracy"], found["accuracy_ci"]),
        percent(found["macro_f1"], found["macro_f1_ci"]),
        percent(found["baseline_accuracy"], found["baseline_accuracy_ci"]),
        f"{100 * found['majority_accuracy']:.1f}",
        f"{found['mean_k']:.2f}",
        f"{100 * fixed['0']:.1f} / {100 * most:.1f}",
        f"{routing['window_fraction']:g} {routing['selector']}",
        front,
        str(found["epochs"]),
        f"{found['minutes']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def percent(value: float, interval: Sequence[float]) -> str:
    """Return a figure in per cent with its interval."""
    return f"{100 * value:.1f} ({100 * interval[0]:.1f} - {100 * interval[1]:.1f})"


HEADER = (
    "| set | test split | clips | accuracy % (95 % interval) | macro F1 % | random-kernel ridge % "
    "| majority % | mean K | accuracy % at K = 0 / K_max | windows | front end | epochs "
    "| minutes |\n" + "|---" * 13 + "|"
)


def main() -> None:
    """Run what is asked for, print the table, and write it beside the runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="*", help="names of jobs, such as fsdd esc10-1")
    parser.add_argument("extra", nargs="*", help="options for every `xmoe train`, after --")
    options = parser.parse_args()
    jobs = [job for job in JOBS if not options.only or job.name in options.only]
    found = {}
    lines = [HEADER]
    for job in jobs:
        found[job.name] = run_job(job, options.data, options.out / job.name, options.extra)
        lines.append(row(job, found[job.name]))
        print(lines[-1], file=sys.stderr, flush=True)
    folds = [figures["accuracy"] for name, figures in found.items() if name.startswith("esc10")]
    if len(folds) > 1:
        spread = statistics.stdev(folds)
        lines.append(
            f"\nesc10, mean of {len(folds)} folds: {100 * statistics.mean(folds):.1f} % "
            f"(standard deviation over folds {100 * spread:.1f})"
        )
    text = "\n".join(lines) + "\n"
    write_bytes(options.out / "results.md", text.encode())
    write_bytes(options.out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    print(text)


if __name__ == "__main__":
    main()
