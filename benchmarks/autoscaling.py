"""Does a hot expert scale by itself, and do the others stay? One expert is loaded, then let go.

    python benchmarks/autoscaling.py RUN CLIP [--expert NAME] [--callers 6] [--out PNG]

Serves RUN here, a deployment per expert, each from one replica to three. One client sends CLIP over
HTTP from beginning to end. After a while many callers ask one expert through its own handle, as the
routers of a large service would, each with a stacked call of ``--rows`` segments; then they stop.
Prints when Serve decided, when the replicas answered, and when they were gone; writes ``--out``.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chaos import Clients, clients, summarise
from matplotlib.figure import Figure

from xmoe.audio.clip import read_clip
from xmoe.base.files import write_bytes
from xmoe.pictures.style import BLUE, INK, ORANGE, QUIET, RED, make_plain, new_figure, to_png
from xmoe.run.folder import RunFolder
from xmoe.serve.experts.expert import Arrays, Weights
from xmoe.serve.experts.local import to_arrays
from xmoe.serve.router.router import load_router
from xmoe.serve.settings import ExpertDeployment, RouterSettings, ServeSettings
from xmoe.serve.start.assemble import find_weights
from xmoe.serve.start.cluster import APP
from xmoe.serve.start.session import serving
from xmoe.serve.watch.status import ReplicaCount, ask_serve

MOST = 3
LOOK_S = 0.25
CALL_S = 30.0
FAST = ExpertDeployment(
    max_replicas=MOST,
    target_ongoing_requests=1.0,
    max_ongoing_requests=4,
    upscale_delay_s=1.0,
    downscale_delay_s=4.0,
    look_back_period_s=2.0,
    metrics_interval_s=0.5,
    num_cpus=0.05,
)


@dataclass
class Timeline:
    """What was seen: replicas of each expert and callers by time, and the calls of the callers."""

    began: float = field(default_factory=time.monotonic)
    seen: list[tuple[float, int, dict[str, ReplicaCount]]] = field(default_factory=list)
    calls: list[tuple[float, float]] = field(default_factory=list)
    callers: int = 0

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def first(self, after_s: float, name: str, what: str, replicas: int) -> float | None:
        """Return how long after a moment an expert first had a ``running`` or ``target`` count."""
        for at_s, _, counts in self.seen:
            if at_s >= after_s and getattr(counts[name], what) == replicas:
                return round(at_s - after_s, 2)
        return None


@contextmanager
def watching(timeline: Timeline, names: tuple[str, ...]) -> Iterator[None]:
    """Note the replicas of the experts a few times per second."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_S):
            counts = ask_serve(APP)
            found = {name: counts[f"expert-{name}"] for name in names}
            timeline.seen.append((timeline.now_s, timeline.callers, found))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def call_for(
    timeline: Timeline, name: str, payload: tuple[Arrays, Weights], *, callers: int, seconds: float
) -> None:
    """Have that many callers ask one expert over and over for so long."""
    from ray import serve

    handle = serve.get_deployment_handle(f"expert-{name}", APP).options(_by_reference=False)
    end = time.monotonic() + seconds

    def ask() -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            handle.infer.remote(payload[0], CALL_S, payload[1]).result(timeout_s=CALL_S)
            timeline.calls.append((timeline.now_s, 1000.0 * (time.monotonic() - began)))

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    timeline.callers = callers
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    timeline.callers = 0


def make_payload(run: Path, clip: Path, expert: str, rows: int) -> Arrays:
    """Return what one stacked call sends to an expert: a segment, repeated."""
    recording = read_clip(clip)
    predictor = load_router(ServeSettings(run=str(run)))
    first = predictor.cut(recording.samples, recording.sample_rate_hz)[:1] * rows
    specs, sound = predictor.measure(first), predictor.sound_of(first)
    every = len(predictor.config.model.experts)
    with torch.inference_mode():
        prepared = predictor.model.prepare(specs, predictor.config.routing, k=every, sound=sound)
    requests = predictor.model.requests(*prepared)
    return to_arrays(next(request for request in requests if request.name == expert))


def measure(
    run: Path, clip: Path, *, expert: str, callers: int, hot_s: float, rows: int, port: int
) -> tuple[Timeline, Clients, dict[str, Any]]:
    """Serve a run, load one expert, and return what was seen, what a client heard, the numbers."""
    settings = ServeSettings(run=str(run), router=RouterSettings(num_cpus=0.1), expert=FAST)
    payload = (make_payload(run, clip, expert, rows), find_weights(settings))
    names = RunFolder(run).read_config().model.callable_experts
    with serving(settings, host="127.0.0.1", port=port) as url:
        timeline = Timeline()
        with watching(timeline, names), clients(url, [clip.read_bytes()], 1) as load:
            time.sleep(5.0)
            up_s = timeline.now_s
            call_for(timeline, expert, payload, callers=callers, seconds=hot_s)
            down_s = timeline.now_s
            while timeline.first(down_s, expert, "running", 1) is None:
                if timeline.now_s > down_s + 60.0:
                    break
                time.sleep(LOOK_S)
            time.sleep(3.0)
    others = [counts[n].target for _, _, counts in timeline.seen for n in names if n != expert]
    numbers = {
        "expert": expert,
        "callers": callers,
        "decided_s": timeline.first(up_s, expert, "target", MOST),
        "serving_s": timeline.first(up_s, expert, "running", MOST),
        "decided_down_s": timeline.first(down_s, expert, "target", 1),
        "gone_s": timeline.first(down_s, expert, "running", 1),
        "most_replicas_of_others": max(others),
        "calls": len(timeline.calls),
        "call_p50_ms": phase_p50(timeline, expert, (up_s, down_s)),
        "http": summarise(load),
    }
    return timeline, load, numbers


def phase_p50(timeline: Timeline, expert: str, hot: tuple[float, float]) -> dict[str, float | None]:
    """Return the median milliseconds of a call by the number of replicas that were running."""
    moments = np.array([at_s for at_s, _, _ in timeline.seen])
    by_replicas: dict[str, list[float]] = {}
    for at_s, ms in timeline.calls:
        seen = timeline.seen[max(0, int(np.searchsorted(moments, at_s)) - 1)]
        if hot[0] <= at_s <= hot[1]:
            by_replicas.setdefault(str(seen[2][expert].running), []).append(ms)
    return {n: round(float(np.median(found)), 1) for n, found in sorted(by_replicas.items())}


def draw(timeline: Timeline, load: Clients, expert: str) -> Figure:
    """Return the picture: replicas, offered load and latency over one clock."""
    figure = new_figure(9.0, 5.6, f"Expert {expert} is made hot and let go; the others stay at one")
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[1.3, 0.8, 1.2])
    moments = [at_s for at_s, _, _ in timeline.seen]
    for name in timeline.seen[0][2]:
        hot = name == expert
        running = [counts[name].running for _, _, counts in timeline.seen]
        label = expert if hot else None
        colour, width, z = (BLUE, 2.0, 3) if hot else (QUIET, 1.0, 2)
        axes[0].step(moments, running, color=colour, lw=width, where="post", label=label, zorder=z)
    target = [counts[expert].target for _, _, counts in timeline.seen]
    axes[0].step(moments, target, color=RED, lw=1.0, ls="--", where="post", label="its target")
    axes[0].plot([], [], color=QUIET, lw=1.0, label="each other expert")
    axes[0].set_ylabel("Replicas", color=INK)
    axes[0].set_ylim(0, MOST + 0.8)
    axes[0].set_yticks(range(MOST + 1))
    axes[0].legend(fontsize=8, frameon=False, ncols=3, loc="upper right")
    callers = [number for _, number, _ in timeline.seen]
    axes[1].fill_between(moments, callers, step="post", color=BLUE, alpha=0.25, lw=0)
    axes[1].set_ylabel("Callers", color=INK)
    axes[2].scatter(*zip(*timeline.calls, strict=True), s=4, color=BLUE, lw=0, label="hot expert")
    heard = [(answer.at_s, answer.ms) for answer in load.answers]
    axes[2].scatter(*zip(*heard, strict=True), s=4, color=ORANGE, lw=0, label="HTTP client")
    axes[2].set_yscale("log")
    axes[2].set_ylabel("Milliseconds", color=INK)
    axes[2].set_xlabel("Seconds", color=INK)
    axes[2].legend(fontsize=8, frameon=False, ncols=2, loc="upper right")
    for part in axes:
        make_plain(part, grid="y")
    return figure


def main() -> None:
    """Run it, print the numbers, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--expert", help="the run's first one by default")
    parser.add_argument("--callers", type=int, default=6)
    parser.add_argument("--hot-s", type=float, default=30.0)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--port", type=int, default=8248)
    parser.add_argument("--out", type=Path, default=Path("autoscaling.png"))
    args = parser.parse_args()
    args.expert = args.expert or RunFolder(args.run).read_config().model.callable_experts[0]
    timeline, load, numbers = measure(
        args.run,
        args.clip,
        expert=args.expert,
        callers=args.callers,
        hot_s=args.hot_s,
        rows=args.rows,
        port=args.port,
    )
    print(json.dumps(numbers, indent=2))
    write_bytes(args.out, to_png(draw(timeline, load, args.expert)))


if __name__ == "__main__":
    main()
