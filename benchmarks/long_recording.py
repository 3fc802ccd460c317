"""Are the events of a two-hour recording found, in bounded memory?

    python benchmarks/long_recording.py [--minutes 120] [--events 200] [--hop 0.25] [--json]

Everything is made from seeds: a training set of eight kinds of event at 20 sites, with a ninth
class, *background* (noise, with and without loud bursts), and two recordings of sites that training
never heard. The first, shorter, is for choosing: how long an event must be, and where it goes on.
The second is annotated with those settings in one command, ``xmoe infer RUN FILE --hop H --truth
FILE``, in a process of its own whose memory is watched. Its events are matched by overlap (at least
30 %) and by onset (within 0.5 s); see ``xmoe.metrics.events``. A ten-second piece is annotated in
the same way, so that what the length of a recording costs can be read off.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile as sf
from rich.console import Console
from rich.table import Table

from xmoe.annotate.recording import AnnotateOptions, annotate_recording, merge_rules
from xmoe.annotate.thresholds import read_thresholds
from xmoe.audio.augment import coloured_noise
from xmoe.audio.synth import SITE_SPLITS, SynthConfig, site_noise_exponent, write_dataset
from xmoe.audio.synth_events import EVENT_LABELS, make_event
from xmoe.base.progress import show_progress
from xmoe.metrics.events import Span, score_overlap
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder

RATE_HZ = 16_000
BACKGROUND = "background"
SNR_DB = (-6.0, 12.0)
EVENT_S = (0.5, 0.95)
BURST_DB, BURST_S, BURSTS_PER_MINUTE = (6.0, 15.0), (0.05, 0.3), 1.0
LEVEL = 0.05
KEEPS = (0.4, 0.7, 1.0)
SHORTEST_S = (0.0, 0.3, 0.5)


@dataclass(frozen=True)
class Scene:
    """A recording to make: its length, how many events, at which site, from which seed."""

    minutes: float
    events: int
    site: int
    seed: int


def make_training_set(root: Path, clips: int, seed: int) -> Path:
    """Write clips of events as ``xmoe synth`` does, and a quarter as many of background alone."""
    write_dataset(root, SynthConfig(num_clips=clips, snr_db=SNR_DB, max_bursts=1, seed=seed))
    with (root / "metadata.csv").open("a", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        for index in range(clips // 4):
            rng = np.random.default_rng([seed, 1, index])
            site = index % len(SITE_SPLITS)
            noise = coloured_noise(RATE_HZ, exponent=site_noise_exponent(seed, site), rng=rng)
            for _ in range(int(rng.integers(0, 2))):
                add_burst(noise, rng)
            name = f"audio/background_{index:05d}.wav"
            gain = 10 ** rng.uniform(-1.0, -0.05) / np.abs(noise).max()
            sf.write(root / name, (gain * noise).astype(np.float32), RATE_HZ, subtype="PCM_16")
            rows.writerow((name, SITE_SPLITS[site], BACKGROUND, f"site_{site:02d}"))
    return root


def add_burst(noise: np.ndarray, rng: np.random.Generator) -> None:
    """Add one loud burst of noise, which is no event, in place."""
    length = min(round(rng.uniform(*BURST_S) * RATE_HZ), len(noise))
    start = int(rng.integers(0, len(noise) - length + 1))
    envelope = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 0.5
    burst = envelope * rng.standard_normal(length)
    noise[start : start + length] += 10 ** (rng.uniform(*BURST_DB) / 20) * burst


def make_recording(path: Path, scene: Scene, seed: int) -> list[Span]:
    """Write noise with events at known, separate times; returns them. One minute is held."""
    rng = np.random.default_rng([seed, scene.seed])
    minutes = max(1, round(scene.minutes))
    exponent = site_noise_exponent(seed, scene.site)
    slot_s = minutes * 60 / scene.events
    planned: list[list[tuple[int, str]]] = [[] for _ in range(minutes)]
    for number in range(scene.events):
        room_s = slot_s - EVENT_S[1] - 0.1
        start = number * slot_s + rng.uniform(0.0, max(room_s, 0.0))
        minute = min(int(start // 60), minutes - 1)
        start = min(start - 60 * minute, 60 - EVENT_S[1])  # events do not cross a minute
        planned[minute].append((round(start * RATE_HZ), str(rng.choice(EVENT_LABELS))))
    truth = []
    with sf.SoundFile(path, "w", RATE_HZ, 1, subtype="PCM_16") as handle:
        for minute, events in enumerate(planned):
            noise = coloured_noise(60 * RATE_HZ, exponent=exponent, rng=rng)
            for _ in range(rng.poisson(BURSTS_PER_MINUTE)):
                add_burst(noise, rng)
            for start, label in events:
                wave = make_event(
                    label,
                    duration_s=rng.uniform(*EVENT_S),
                    sample_rate_hz=RATE_HZ,
                    top_hz=0.45 * RATE_HZ,
                    rng=rng,
                )
                noise[start : start + len(wave)] += 10 ** (rng.uniform(*SNR_DB) / 20) * wave
                begin = (minute * 60 * RATE_HZ + start) / RATE_HZ
                truth.append(Span(begin, begin + len(wave) / RATE_HZ, label))
            handle.write(np.clip(LEVEL * noise, -1.0, 1.0).astype(np.float32))
    return truth


def write_truth(path: Path, truth: list[Span]) -> Path:
    """Write known events as a table."""
    with path.open("w", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(Span._fields)
        rows.writerows(truth)
    return path


def choose_rules(run: Path, recording: Path, truth: list[Span], hop_s: float) -> dict[str, float]:
    """Return where events go on and how long they must be, by overlap F1 on a recording."""
    predictor = Predictor.load(run)
    thresholds = read_thresholds(RunFolder(run), predictor.config.classes)
    best: tuple[float, dict[str, float]] = (-1.0, {})
    for keep, shortest in itertools.product(KEEPS, SHORTEST_S):
        rules = merge_rules(thresholds, keep=keep, min_duration_s=shortest)
        done = annotate_recording(predictor, recording, AnnotateOptions(hop_s=hop_s, rules=rules))
        found = [Span(*event[:3]) for event in done.events]
        f1 = score_overlap(found, truth).f1
        print(f"keep {keep:g}, at least {shortest:g} s: F1 {f1:.3f}", file=sys.stderr)
        if f1 > best[0]:
            best = (f1, {"keep": keep, "min_duration": shortest})
    return {"f1": best[0], **best[1]}


def annotate(run: Path, recording: Path, *options: str) -> dict[str, Any]:
    """Run ``xmoe infer`` in its own process; adds its peak memory in MB."""
    command = [sys.executable, "-m", "xmoe", "infer", str(run), str(recording), "--json", "-q"]
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen([*command, *options], stdout=output)
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        output.seek(0)
        reply = json.loads(output.read())
    if process.wait() != 0:
        raise SystemExit(f"xmoe infer failed: {reply}")
    return {**reply["recordings"][0], "peak_mb": peak / 1e6}


def run_benchmark(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make, train, choose, annotate; returns every figure."""
    run = options.run or folder / "run"
    if options.run is None:
        clips = make_training_set(folder / "set", options.clips, options.seed)
        with show_progress() as progress:
            MoEAudioClassifier(seed=options.seed).fit(clips, out_dir=run, progress=progress)
    validation, test = folder / "validation.wav", folder / "two_hours.wav"
    minutes = max(2.0, options.minutes / 6)
    scene = Scene(minutes, max(4, options.events // 6), SITE_SPLITS.index("val"), 1)
    chosen = choose_rules(
        run, validation, make_recording(validation, scene, options.seed), options.hop
    )
    scene = Scene(options.minutes, options.events, SITE_SPLITS.index("test"), 2)
    truth = write_truth(folder / "truth.csv", make_recording(test, scene, options.seed))
    short = folder / "ten_seconds.wav"
    sf.write(short, sf.read(test, frames=10 * RATE_HZ)[0], RATE_HZ, subtype="PCM_16")
    rules = ["--hop", str(options.hop), "--keep", str(chosen["keep"])]
    rules += ["--min-duration", str(chosen["min_duration"]), "--out", str(options.out or folder)]
    rules += ["--format", "all"]
    small = annotate(run, short, *rules)
    large = annotate(run, test, *rules, "--truth", str(truth))
    large["above_ten_seconds_mb"] = large["peak_mb"] - small["peak_mb"]
    return {"chosen": chosen, "ten_seconds": small, "recording": large}


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""
    large, chosen = result["recording"], result["chosen"]
    scores = large["scores"]
    table = Table(title=f"{large['duration_s'] / 60:.0f} minutes, hop {large['hop_s']:g} s")
    for name in ("figure", "value"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    rows = [
        ("chosen on the other recording", f"keep {chosen['keep']:g}, {chosen['min_duration']:g} s"),
        ("events there / found", f"{scores['overlap']['there']} / {large['events']}"),
    ]
    for name, words in (("overlap", "overlap >= 0.3"), ("onset", "onset within 0.5 s")):
        figures = "{f1:.3f} / {precision:.3f} / {recall:.3f}".format(**scores[name])
        rows.append((f"{words}: F1 / precision / recall", figures))
    rows += [
        ("peak memory", f"{large['peak_mb']:.0f} MB"),
        ("of it above a recording of 10 s", f"{large['above_ten_seconds_mb']:.0f} MB"),
        ("time taken", f"{large['seconds']:.1f} s"),
        ("real-time factor", f"{large['real_time_factor']:.4f}"),
        ("mean K", f"{large['mean_k']:.2f}"),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run whose classes are these; else one is made")
    parser.add_argument("--out", type=Path, help="keep events and picture here")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--hop", type=float, default=0.25)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xmoe-long-") as folder:
        result = run_benchmark(options, Path(folder))
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
