"""Does batch inference on Ray keep up with a plain loop, and does it lose or repeat anything?

    python benchmarks/batch_inference.py [--clips 20000] [--run RUN] [--workers N] [--json]

Makes short clips (0.3 to 0.5 s, 8 kHz) in folders of 200. A *plain loop* answers for all of them in
one process with the same code that the actors run. ``xmoe infer --engine ray`` then does the same;
it is killed (SIGKILL) after a third of its shards and called again. Checked: exactly one row for
every clip, the answers of the loop, and that what was finished before the kill was not written
again. *Per core* is clips per second of actors' time: from the first finished shard of the second
call to the last, over the number of actors. CPU time and memory are summed over the whole process
tree of the second call, Ray's own processes with it. Without ``--run`` the classifier has the
default settings and random weights: the work is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import soundfile as sf
import torch
from rich.console import Console
from rich.table import Table

from xmoe.base.config import (
    EXPERT_NAMES,
    ModelConfig,
    RoutingConfig,
    RunConfig,
    SpectroConfig,
    TrainConfig,
)
from xmoe.batch.answers import answer_names
from xmoe.batch.inputs import list_inputs
from xmoe.mixture.moe import MoE, split_weights
from xmoe.policy.records import list_specs
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder

PER_FOLDER = 200
TARGET = 0.8
POLL_S = 0.25
TOLERANCE = 1e-3


def make_clips(folder: Path, count: int) -> None:
    """Write tones in noise, each of its own pitch and length."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(8000).astype(np.float32) * 0.05
    time_s = np.arange(4000, dtype=np.float32) / 8000
    for index in range(count):
        place = folder / f"{index // PER_FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        length, start = int(rng.integers(2400, 4001)), int(rng.integers(0, 4000))
        tone = 0.3 * np.sin(2 * np.pi * float(rng.uniform(200, 3500)) * time_s[:length])
        samples = tone + noise[start : start + length]
        sf.write(place / f"{index:06d}.wav", samples, 8000, subtype="PCM_16")


def make_run(folder: Path) -> Path:
    """Write a run of the default settings with random weights."""
    config = RunConfig(
        classes=tuple("abcdefgh"),
        spectro=SpectroConfig(),
        model=ModelConfig(experts=list_specs(EXPERT_NAMES, SpectroConfig()), num_classes=8),
        train=TrainConfig(),
        routing=RoutingConfig(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MoE(config.model, config.spectro)
    run = RunFolder(folder)
    run.write_record("run_config.json", config)
    run.save_checkpoint("best", split_weights(model), {}, which=("best", "last"))
    return folder


def run_loop(run: Path, clips: Path) -> tuple[dict[str, float], float, float]:
    """Return probabilities by name, seconds and CPU seconds of one process with one thread."""
    torch.set_num_threads(1)
    predictor, inputs = Predictor.load(run), list_inputs(str(clips))
    list(answer_names(predictor, inputs.base, inputs.names[:64]))
    began, cpu = time.perf_counter(), time.process_time()
    rows = answer_names(predictor, inputs.base, inputs.names)
    found = {row["file"]: row["probability"] for row in rows}
    return found, time.perf_counter() - began, time.process_time() - cpu


@dataclass
class Watch:
    """CPU seconds and memory of a process and all that it started, as last seen."""

    root: psutil.Process
    cpu_s: dict[int, float] = field(default_factory=dict)
    actors_mib: list[float] = field(default_factory=list)
    driver_mib: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Take note of every process of the tree."""
        try:
            tree = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        actors = [0.0]
        for process in tree:
            try:
                times, memory = process.cpu_times(), process.memory_info()
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            self.cpu_s[process.pid] = times.user + times.system
            mib = (memory.rss - memory.shared) / 2**20
            if "MapWorker" in command:
                actors.append(mib)
            if process == self.root:
                self.driver_mib.append(mib)
        self.actors_mib.append(max(actors))


def call_infer(run: Path, clips: Path, out: Path, *, workers: int) -> subprocess.Popen[bytes]:
    """Start ``xmoe infer`` on Ray in a session of its own."""
    command = [sys.executable, "-m", "xmoe", "infer", str(run), "--input", str(clips)]
    command += ["--output", str(out), "--engine", "ray", "--workers", str(workers), "--json", "-q"]
    command += ["--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def receipts_of(out: Path) -> dict[str, int]:
    """Return when each finished shard was noted, in nanoseconds."""
    folder = out / "_done"
    if not folder.is_dir():
        return {}
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[0-9]*.json")}


def kill_after(process: subprocess.Popen[bytes], out: Path, shards: int) -> None:
    """Kill a call and what it started once so many shards are done."""
    while len(receipts_of(out)) < shards and process.poll() is None:
        time.sleep(POLL_S)
    if process.poll() is not None:
        raise SystemExit(f"the call ended by itself before {shards} shards were done")
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for gone in psutil.wait_procs(tree, timeout=20)[1]:
        gone.send_signal(signal.SIGKILL)


def measure(run: Path, root: Path, count: int, workers: int) -> dict[str, Any]:
    """Make the clips, run the loop, then the call that is killed and the one that goes on."""
    clips, out = root / "clips", root / "preds"
    make_clips(clips, count)
    expected, loop_s, loop_cpu_s = run_loop(run, clips)
    shards = -(-count // 256)
    kill_after(call_infer(run, clips, out, workers=workers), out, max(1, shards // 3))
    before = receipts_of(out)
    process = call_infer(run, clips, out, workers=workers)
    watch, began = Watch(psutil.Process(process.pid)), time.perf_counter()
    while process.poll() is None:
        watch.look()
        time.sleep(POLL_S)
    wall_s = time.perf_counter() - began
    after = receipts_of(out)
    new = sorted(stamp for name, stamp in after.items() if name not in before)
    rows = pq.read_table(out).to_pylist()
    found = {row["file"]: row["probability"] for row in rows}
    steady = (len(new) - 1) * 256 / ((new[-1] - new[0]) / 1e9) / workers
    kept = sum(stamp == after.get(name) for name, stamp in before.items())
    redone = len(new) * 256
    half = len(watch.actors_mib) // 2
    return {
        "clips": count,
        "workers": workers,
        "exit_code": process.returncode,
        "rows": len(rows),
        "one_row_each": sorted(row["file"] for row in rows) == sorted(expected),
        "largest_difference": max(abs(found[name] - expected[name]) for name in expected),
        "shards": shards,
        "shards_before_kill": len(before),
        "shards_kept": kept,
        "loop_per_s": count / loop_s,
        "ray_per_s_and_core": steady,
        "ratio": steady / (count / loop_s),
        "ratio_with_start": redone / wall_s / workers / (count / loop_s),
        "loop_cpu_ms": 1e3 * loop_cpu_s / count,
        "ray_cpu_ms": 1e3 * sum(watch.cpu_s.values()) / redone,
        "second_call_s": wall_s,
        "driver_mib": [max(watch.driver_mib[:half]), max(watch.driver_mib)],
        "actor_mib": [max(watch.actors_mib[:half]), max(watch.actors_mib)],
    }


def print_figures(figures: dict[str, Any]) -> None:
    """Print the figures as a table for people."""
    table = Table(title=f"{figures['clips']} clips, {figures['workers']} actors")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        if isinstance(value, list):
            text = " then ".join(f"{part:.0f}" for part in value)
        else:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), text)
    Console().print(table)


def main() -> int:
    """Measure, print, and return 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xmoe-batch-") as scratch:
        run = options.run or make_run(Path(scratch) / "run")
        figures = measure(run.absolute(), Path(scratch), options.clips, options.workers)
    sound = figures["one_row_each"] and figures["shards_kept"] == figures["shards_before_kill"]
    sound = sound and figures["largest_difference"] < TOLERANCE and figures["exit_code"] == 0
    if options.json:
        print(json.dumps(figures))
    else:
        print_figures(figures)
        print(f"sound: {sound}; per core {figures['ratio']:.2f} of the loop (target {TARGET})")
    return 0 if sound and figures["ratio"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
