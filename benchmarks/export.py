"""An exported run beside the full stack: the same answers, milliseconds and memory.

    python benchmarks/export.py RUN --dataset DIR --metadata CSV [--clips 100]

RUN is exported into a temporary folder. Two fresh processes of one thread answer the same test
clips one after the other, `xmoe` with torch and `xmoe_lite` without. Prints how far apart their
probabilities are, and of each: milliseconds of processor for a second of sound, the time until it
could answer, and the most memory that it held. What else runs changes times; ratios hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from xmoe.audio.dataset import load_dataset
from xmoe.export.folder import export_run

FULL = """
import torch
from xmoe.audio.clip import read_clip
from xmoe.predict.predictor import Predictor
torch.set_num_threads(1)
model = Predictor.load(sys.argv[1])
def answer(path):
    clip = read_clip(path)
    said = model.predict(clip.samples, clip.sample_rate_hz)
    return len(clip.samples) / clip.sample_rate_hz, list(said.probabilities.values()), said.k
"""
LITE = """
from xmoe_lite.model import Model
from xmoe_lite.sound import read_sound
model = Model(sys.argv[1])
def answer(path):
    samples, rate_hz = read_sound(path)
    said = model.predict(samples, rate_hz)
    return len(samples) / rate_hz, list(said["probabilities"].values()), said["k"]
"""
CHILD = """
import json, sys, time
{load}
loaded_s = time.process_time()
said = [answer(path) for path in json.loads(sys.stdin.read())]
spent_s = time.process_time() - loaded_s
# Not ru_maxrss, which a process has from the one that started it.
most_kb = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(json.dumps([said, loaded_s, spent_s, most_kb / 1024]))
"""


@dataclass(frozen=True)
class Measured:
    """Probabilities [n, C], experts asked [n], and what a process took."""

    p: np.ndarray
    k: np.ndarray
    ms_per_s: float
    load_s: float
    most_mb: float


def measure(load: str, folder: Path, files: Sequence[str], path: Path) -> Measured:
    """Answer files in a fresh process that imports from ``path``."""
    command = [sys.executable, "-c", CHILD.format(load=load), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        env=environment,
        input=json.dumps(files),
        text=True,
        check=True,
        capture_output=True,
    )
    said, load_s, spent_s, most_mb = json.loads(done.stdout.splitlines()[-1])
    seconds, p, k = zip(*said, strict=True)
    return Measured(np.array(p), np.array(k), 1000.0 * spent_s / sum(seconds), load_s, most_mb)


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--metadata", type=Path)
    parser.add_argument("--clips", type=int, default=100)
    options = parser.parse_args(args)
    dataset = load_dataset(options.dataset, options.metadata)
    examples = dataset.split("test")
    picked = np.random.default_rng(0).permutation(len(examples))[: options.clips]
    files = [str(dataset.path(examples[index]).resolve()) for index in picked]
    with TemporaryDirectory() as room:
        done = export_run(options.run, Path(room, "out"))
        full = measure(FULL, options.run.resolve(), files, Path(__file__).parents[1])
        lite = measure(LITE, done.folder, files, done.folder)
    far = np.abs(full.p - lite.p).max(axis=1)
    print(f"{len(files)} test clips of {options.run.name}, mean K {full.k.mean():.2f}")
    print(f"exported: {sum(done.sizes.values()) / 1e6:.1f} MB")
    print(
        f"probabilities differ by at most {far.max():.1e}, by {np.median(far):.0e} in the median;"
    )
    print(f"more than 1e-4: {(far > 1e-4).sum()} clips; another label: ", end="")
    print(f"{(full.p.argmax(1) != lite.p.argmax(1)).sum()}; another K: {(full.k != lite.k).sum()}")
    print("\n| | ms per second of sound | CPU-s until it can answer | most memory, MB |")
    print("|---|---|---|---|")
    for name, one in (("xmoe", full), ("xmoe_lite", lite)):
        print(f"| {name} | {one.ms_per_s:.1f} | {one.load_s:.1f} | {one.most_mb:.0f} |")


if __name__ == "__main__":
    main()
