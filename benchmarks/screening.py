"""Rare events in long recordings: what is found for how many calls of a pretrained network?

    python benchmarks/screening.py --dataset ESC10 --metadata FOLD.csv --backbone birdnet.json

Test clips of five classes, two loud seconds of each, are placed in pink noise at 0 to 15 dB, one a
minute; in two minutes of five there is a clip of another class too, at 5 to 20 dB. A mixture is
trained on such sound of other sources, with the cheapest stem (``--policy rule``) since that hears
everything: the five classes, and ``background`` for noise and the
others. What is compared, by how often the network is called:

    grid      the network on every window, half a window apart
    energy    only on the windows with most energy
    uniform   only on every n-th window
    random    only on some windows, by chance
    xmoe      ``xmoe infer --hop H --wake P``: the network hears only likely events

Thresholds come from validation clips, each setting's own. Times are those of the processor; the
ways take turns on recordings of five minutes. A call that was stopped goes on in ``--work``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch
from matplotlib.figure import Figure

from xmoe.annotate.answers import GROUP_SAMPLES, WOKEN_GROUPS, answer_group, group_windows
from xmoe.annotate.events import MergeRules, list_rows, merge_events
from xmoe.annotate.moments import Wake
from xmoe.annotate.recording import BLOCK_FRAMES, grid_of
from xmoe.audio.augment import coloured_noise
from xmoe.audio.clip import open_blocks
from xmoe.audio.dataset import load_dataset
from xmoe.audio.segment import Grid, share_time
from xmoe.audio.store import load_clips
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import AudioError
from xmoe.base.files import read_json, write_bytes, write_json
from xmoe.experts.backbone import BackboneExpert, pool_embeddings
from xmoe.experts.memory import EmbeddingMemory
from xmoe.frontend.threads import one_thread
from xmoe.metrics.events import Span, score_overlap
from xmoe.pictures.style import make_plain, new_figure, to_png
from xmoe.predict.predictor import Predictor

TARGETS = ("baby_cry", "chainsaw", "dog_bark", "person_sneeze", "rooster")
BACKGROUND = "background"
SCENES = VALIDATION, TEST = "val", "test"
EVENT_S, CLIP_S, FADE_S, PART_MIN = 2.0, 3.0, 0.01, 5
SNR_DB, LOUD_DB = (0.0, 15.0), (5.0, 20.0)
LEVEL, CUTS, EXPONENTS = 0.01, 2, (0.5, 1.5)
SHARES = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
CHANCES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
THRESHOLDS, KEEP = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), 0.7
NOT_KEPT = ("minutes", "out", "work")
STYLES = {"grid": "k*", "xmoe": "o-", "energy": "^-", "uniform": "v:", "random": "x:"}

Floats = npt.NDArray[np.float64]
Sounds = Mapping[str, Sequence[tuple[str, Floats]]]
Run = tuple[Predictor, BackboneExpert]
# A way to choose windows, and how many of all, or from what chance on, it calls for.
Setting = tuple[str, float]
GRID = ("grid", 1.0)


@lru_cache(maxsize=1)
def read_clips(root: Path, metadata: Path | None) -> tuple[dict[str, Sounds], int]:
    """Return clips by split and class, each with its source, and their rate in Hz."""
    data, rate = load_dataset(root, metadata), 0
    clips: dict[str, dict[str, list[tuple[str, Floats]]]] = {}
    for example, clip in load_clips(data, data.examples):
        if isinstance(clip, AudioError):
            raise clip
        rate = clip.sample_rate_hz
        own = clips.setdefault(example.split, {}).setdefault(example.labels[0], [])
        parts = Path(example.filepath).stem.split("-")  # ESC: fold-source-take-class
        own.append((parts[min(1, len(parts) - 1)], clip.samples.astype(np.float64)))
    return clips, rate


def cut_event(clip: Floats, rate_hz: int, rng: np.random.Generator) -> Floats:
    """Return two seconds of a clip, among the louder ones, of mean power 1, with soft ends."""
    length, step = min(round(EVENT_S * rate_hz), len(clip)), max(rate_hz // 10, 1)
    power = np.concatenate([[0.0], np.cumsum(clip**2)])
    starts = np.arange(0, len(clip) - length + 1, step)
    energy = power[starts + length] - power[starts]
    start = int(rng.choice(starts[energy >= 0.5 * energy.max()]))
    event = clip[start : start + length] / np.sqrt(max(float(energy.max()) / length, 1e-12))
    ramp = np.minimum(1.0, np.arange(length) / (FADE_S * rate_hz))
    return np.asarray(event * ramp * ramp[::-1])


def add_event(sound: Floats, event: Floats, start: int, snr_db: float) -> None:
    """Add what of an event lies within a sound of power 1, in place."""
    first, last = max(start, 0), min(start + len(event), len(sound))
    sound[first:last] += 10 ** (snr_db / 20) * event[first - start : last - start]


def make_training_set(folder: Path, clips: Mapping[str, Sounds], rate_hz: int, seed: int) -> Path:
    """Write short clips of events in noise out of the training clips; a fifth is validation."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rng, size = np.random.default_rng([seed, 0]), round(CLIP_S * rate_hz)
    rows: list[tuple[str, str, str, str]] = []

    def add(split: str, label: str, group: str, sound: Floats) -> None:
        name = f"audio/{len(rows):05d}.wav"
        level = LEVEL * 10 ** rng.uniform(-0.3, 0.3)
        sf.write(folder / name, np.clip(level * sound, -1.0, 1.0), rate_hz, subtype="PCM_16")
        rows.append((name, split, label, group))

    noise = partial(coloured_noise, size, rng=rng)
    for heard, cuts in (("train", CUTS), ("val", 1)):
        for name, own in clips[heard].items():
            target = name in TARGETS
            for source, clip in own:
                part = "val" if sum(map(ord, source)) % 5 == 0 else "train"
                split = "test" if heard == "val" else part
                for _ in range(cuts):
                    sound = noise(exponent=rng.uniform(*EXPONENTS))
                    event = cut_event(clip, rate_hz, rng)
                    start = round(rng.uniform(-0.75, CLIP_S - EVENT_S + 0.75) * rate_hz)
                    add_event(sound, event, start, rng.uniform(*(SNR_DB if target else LOUD_DB)))
                    add(split, name if target else BACKGROUND, source, sound)
    splits = ("train", "val", "test", "train", "train", "train")
    for index in range(len(rows) // 4):
        add(splits[index % 6], BACKGROUND, f"n{index}", noise(exponent=1.0))
    lines = map(",".join, [("filepath", "split", "label", "group"), *rows])
    write_bytes(folder / "metadata.csv", "\n".join(lines).encode())
    return folder


def make_recording(
    path: Path, clips: Sounds, rate_hz: int, seeds: Sequence[Sequence[int]]
) -> list[Span]:
    """Write noise, a minute for each seed, with an event in each; return the events."""
    truth, slot_s = [], 30.0
    with sf.SoundFile(path, "w", rate_hz, 1, subtype="PCM_16") as handle:
        for minute, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            sound = coloured_noise(60 * rate_hz, exponent=1.0, rng=rng)
            kinds = ["target", *["other"] * (minute % 3 == 0)]
            for slot, kind in enumerate(rng.permutation(kinds)):
                names = sorted(n for n in clips if (n in TARGETS) == (kind == "target"))
                label = str(rng.choice(names))
                _, clip = clips[label][int(rng.integers(len(clips[label])))]
                event = cut_event(clip, rate_hz, rng)
                begin = round((slot * slot_s + rng.uniform(1.0, slot_s - 5.0)) * rate_hz)
                snr_db = rng.uniform(*(SNR_DB if kind == "target" else LOUD_DB))
                add_event(sound, event, begin, snr_db)
                if kind == "target":
                    start_s = 60.0 * minute + begin / rate_hz
                    truth.append(Span(start_s, start_s + len(event) / rate_hz, label))
            handle.write(np.clip(LEVEL * sound, -1.0, 1.0))
    return truth


@dataclass(frozen=True)
class Heard:
    """Probabilities [n, C] of cells [n, 2] in s, calls, processor seconds, windows' energy [n]."""

    probabilities: Floats
    cells_s: Floats
    calls: int
    seconds: float
    energy: Floats


def join(parts: Sequence[Mapping[str, Any]], each_s: float) -> Heard:
    """Return the answers, as they were kept, to recordings of ``each_s`` one after the other."""
    cells = [np.array(part["cells_s"]) + n * each_s for n, part in enumerate(parts)]
    return Heard(
        np.concatenate([np.array(part["probabilities"]) for part in parts]),
        np.concatenate(cells),
        sum(part["calls"] for part in parts),
        sum(part["seconds"] for part in parts),
        np.concatenate([np.array(part["energy"]) for part in parts]),
    )


def load_run(run: Path) -> Run:
    """Return a run and its first network; SystemExit where training found no use for one."""
    predictor = Predictor.load(run)
    networks = [one for one in predictor.model.experts.values() if isinstance(one, BackboneExpert)]
    if not networks:
        raise SystemExit(f"{run}: no network is among the experts; see policy.json")
    for network in networks:
        network.ear.memory = EmbeddingMemory(0)  # each way pays for all that it hears
    return predictor, networks[0]


def hear_grid(expert: BackboneExpert, path: Path) -> Heard:
    """Return a network's answer to every window of a recording."""
    began, card = time.process_time(), expert.ear.card
    rows, cells, energy = [], [], []
    with one_thread(), open_blocks(path, block_frames=BLOCK_FRAMES) as (info, blocks, _):
        grid = Grid.of(info.sample_rate_hz, segment_s=card.span_s, hop_s=card.step_s)
        for segment, cell in share_time(grid.cut_blocks(blocks)):
            own = expert.ear.embed(expert.ear.cut(segment.samples, info.sample_rate_hz))
            logits = expert.head(pool_embeddings(card, torch.from_numpy(own)[None]))
            rows.append(logits.double().exp().numpy())
            cells.append(cell)
            energy.append(float(np.square(segment.samples).mean()))
    found = np.concatenate(rows), np.array(cells) / info.sample_rate_hz
    return Heard(*found, len(rows), time.process_time() - began, np.array(energy))


def hear_xmoe(predictor: Predictor, path: Path, chance: float, hop_s: float) -> Heard:
    """Return a mixture's answers as ``xmoe infer --hop --wake`` has them."""
    began, wake = time.process_time(), Wake(chance, (BACKGROUND,))
    with one_thread(), open_blocks(path, block_frames=BLOCK_FRAMES) as (info, blocks, _):
        grid = grid_of(predictor, info, hop_s)
        windows = share_time(grid.cut_blocks(blocks))
        cut = group_windows(windows, grid, WOKEN_GROUPS * GROUP_SAMPLES)
        groups = [answer_group(predictor, group, wake) for group in cut]
    return Heard(
        np.concatenate([group.probabilities for group in groups]),
        np.concatenate([group.answered_cells for group in groups]) / info.sample_rate_hz,
        sum(len(group.moments) for group in groups),
        time.process_time() - began,
        np.empty(0),
    )


def pick(heard: Heard, rows: npt.NDArray[np.int64], card: BackboneCard) -> Heard:
    """Return what is known where only some windows were heard; neighbours meet in the middle."""
    rows = np.sort(rows)
    middles = heard.cells_s[rows].mean(1)
    cells = middles[:, None] + card.span_s / 2 * np.array([-1.0, 1.0])
    meet = (middles[1:] + middles[:-1]) / 2
    cells[1:, 0], cells[:-1, 1] = np.maximum(cells[1:, 0], meet), np.minimum(cells[:-1, 1], meet)
    seconds = heard.seconds / heard.calls * len(rows)
    return Heard(heard.probabilities[rows], cells, len(rows), seconds, heard.energy[rows])


def list_settings(
    grid: Heard, known: Mapping[float, Heard], card: BackboneCard
) -> dict[Setting, Heard]:
    """Return what is heard in every setting, by the network's and by the mixture's answers."""
    found = {GRID: grid, **{("xmoe", chance): heard for chance, heard in known.items()}}
    total, loudest = grid.calls, np.argsort(-grid.energy, kind="stable")
    drawn = np.random.default_rng(0).permutation(total)
    for share in SHARES:
        count = max(round(share * total), 1)
        evenly = np.linspace(0, total - 1, count).round().astype(int)
        found["energy", share] = pick(grid, loudest[:count], card)
        found["uniform", share] = pick(grid, evenly, card)
        found["random", share] = pick(grid, drawn[:count], card)
    return found


def score(heard: Heard, truth: Sequence[Span], classes: tuple[str, ...], threshold: float) -> float:
    """Return the event F1 at a threshold, the same for all classes."""
    rules = MergeRules(threshold=threshold, keep=KEEP, background=(BACKGROUND,))
    rows = list_rows(heard.probabilities, heard.cells_s, classes, rules)
    return score_overlap([Span(*one[:3]) for one in merge_events(rows, rules)], truth).f1


def hear_part(run: Run, scene: str, minute: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return events and answers of five minutes of a scene; they are kept in a file of ``work``."""
    kept, path = (options.work / name for name in (f"{scene}-{minute:03d}.json", "recording.wav"))
    if not kept.exists():
        clips, rate_hz = read_clips(options.dataset, options.metadata)
        seeds = [[options.seed, SCENES.index(scene), minute + n] for n in range(PART_MIN)]
        truth = make_recording(path, clips[scene], rate_hz, seeds)
        heard = {"grid": hear_grid(run[1], path)}
        heard |= {f"{chance:g}": hear_xmoe(run[0], path, chance, options.hop) for chance in CHANCES}
        write_json(kept, {"truth": truth, **{way: vars(own) for way, own in heard.items()}})
    known: dict[str, Any] = read_json(kept)
    return known


def hear_scene(
    run: Run, scene: str, options: argparse.Namespace
) -> tuple[list[Span], dict[Setting, Heard]]:
    """Return the events of a scene, and what is heard in every setting."""
    minutes, each_s = range(0, options.minutes, PART_MIN), 60.0 * PART_MIN
    parts = [hear_part(run, scene, minute, options) for minute in minutes]
    truth = [
        Span(start + n * each_s, end + n * each_s, label)
        for n, part in enumerate(parts)
        for start, end, label in part["truth"]
    ]
    known = {chance: join([part[f"{chance:g}"] for part in parts], each_s) for chance in CHANCES}
    grid = join([part["grid"] for part in parts], each_s)
    return truth, list_settings(grid, known, run[1].ear.card)


def compare(scenes: Mapping[str, Any], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each scene and setting, with the threshold that is best on validation.

    ``chosen`` are all windows, and the mixture where it calls least at a point less of F1 there
    than its best.
    """
    truth, heard = scenes[VALIDATION]
    best = {
        setting: max((score(own, truth, classes, p), p) for p in THRESHOLDS)
        for setting, own in heard.items()
    }
    mixed = [setting for setting in best if setting[0] == "xmoe"]
    least = max(best[setting][0] for setting in mixed) - 0.01
    chosen = max(setting for setting in mixed if best[setting][0] >= least)
    return [
        {
            "scene": scene,
            "way": setting[0],
            "value": setting[1],
            "chosen": setting in (GRID, chosen),
            "calls": own.calls,
            "calls_share": own.calls / heard[GRID].calls,
            "time_share": own.seconds / heard[GRID].seconds,
            "threshold": best[setting][1],
            "f1": score(own, truth, classes, best[setting][1]),
        }
        for scene, (truth, heard) in scenes.items()
        for setting, own in heard.items()
    ]


def tell(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table, and what the setting that validation chose makes of it."""
    print(f"\n| way | setting | calls | of every window | time | event F1 |\n{'|---' * 6}|")
    for row in rows:
        share = f"{row['calls']} | {row['calls_share']:.1%} | {row['time_share']:.1%}"
        print(f"| {row['way']} | {row['value']:g} | {share} | {row['f1']:.3f} |")
    grid, xmoe = (row for row in rows if row["chosen"])
    as_good = [r["calls"] for r in rows if r["way"] == "energy" and r["f1"] >= xmoe["f1"]]
    print(
        f"\nxmoe at {xmoe['value']:g}: calls / {grid['calls'] / max(xmoe['calls'], 1):.1f}, "
        f"time / {1 / xmoe['time_share']:.1f}, F1 {xmoe['f1'] - grid['f1']:+.3f}; "
        f"energy has that F1 with {min(as_good, default='no')} calls, xmoe with {xmoe['calls']}"
    )


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return F1 against calls."""
    figure = new_figure(6.5, 4.2, "Event F1 by calls of the network")
    axes = figure.subplots()
    for way, style in STYLES.items():
        points = sorted((row["calls"], row["f1"]) for row in rows if row["way"] == way)
        axes.plot(*zip(*points, strict=True), style, ms=5, label=way)
    axes.set_xscale("symlog", linthresh=10)
    axes.set(xlabel="calls of the network", ylabel="event F1")
    axes.legend(frameon=False, fontsize=8)
    make_plain(axes)
    return figure


def main() -> None:
    """Make sound, train, listen, choose thresholds, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("--dataset", "--backbone", "--metadata"):
        parser.add_argument(name, type=Path, required=name != "--metadata")
    parser.add_argument("--work", type=Path, default=Path("screening"), help="what is kept")
    parser.add_argument("--minutes", type=int, default=60, help="of sound to test on")
    parser.add_argument("--hop", type=float, default=3.0, help="s between the mixture's windows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("screening.png"))
    options = parser.parse_args()
    made, folder = options.work / "set", options.work / "run"
    asked = {name: str(value) for name, value in vars(options).items() if name not in NOT_KEPT}
    kept = options.work / "options.json"
    if not kept.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        write_json(kept, asked)
    if read_json(kept) != asked:
        raise SystemExit(f"{kept}: the folder holds the work of other options; give another --work")
    if not (made / "metadata.csv").exists():
        clips, rate_hz = read_clips(options.dataset, options.metadata)
        make_training_set(made, clips, rate_hz, options.seed)
    if not (folder / "metrics.json").exists():
        command = ["train", "--local", "--policy", "rule", "--dataset", made, "--out", folder]
        goes_on = ["--resume"] if folder.exists() else []
        own = map(str, [*command, "--backbone", options.backbone, *goes_on])
        subprocess.run([sys.executable, "-m", "xmoe", *own], check=True)
    run = load_run(folder)
    scenes = {scene: hear_scene(run, scene, options) for scene in SCENES}
    rows = compare(scenes, run[0].config.classes)
    test = [row for row in rows if row["scene"] == TEST]
    tell(test)
    write_json(options.out.with_suffix(".json"), rows)
    write_bytes(options.out, to_png(draw(test)))


if __name__ == "__main__":
    main()
