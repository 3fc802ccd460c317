"""What do clients notice when experts die? One expert is killed again and again under load.

    python benchmarks/faults.py RUN CLIP... [--seconds 60] [--every 5] [--clients 4]

Serves RUN in a child process, a deployment per expert. Clients send the recordings over and over,
each a tenth of a second after its last answer, so that two cores have room for a replica to start.
First nothing happens, for a quarter of the time. Then the replica of one expert, that of the
heaviest weight for the first recording, is killed every few seconds, if it is back by then. Then it
is killed as soon as its process is there, for as long. Prints a row of each phase and writes
``--out`` (PNG).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import Child, Clients, clients, connect, served, strike_all, summarise
from matplotlib.figure import Figure

from xmoe.base.files import write_bytes
from xmoe.pictures.style import BLUE, INK, ORANGE, QUIET, RED, make_plain, new_figure, to_png

PAUSE_S = 0.1  # a replica that comes back needs a processor too
CALM, KILLED, GONE = "no kills", "killed every {every:g} s", "killed as soon as it is there"


@dataclass
class Phase:
    """One phase of the series: its load, and the moments at which a replica was killed."""

    name: str
    load: Clients
    kills_s: list[float]

    def row(self) -> dict[str, Any]:
        """Return what is printed of it."""
        return {"phase": self.name, "kills": len(self.kills_s), **summarise(self.load)}


def choose_victim(child: Child, body: bytes) -> str:
    """Return the expert that has the most to say about a recording."""
    connection = connect(child.url)
    connection.request("POST", "/v1/classify?budget=accuracy", body)
    answer = json.load(connection.getresponse())
    connection.close()
    name: str = max(answer["experts"], key=lambda use: use["weight"])["name"]
    return name


def kill_series(
    child: Child,
    bodies: list[bytes],
    victim: str,
    *,
    seconds: float,
    every_s: float,
    number: int = 4,
) -> Phase:
    """Keep clients busy while an expert's replica is killed every so often.

    Only one that serves is killed; with 0, every process of the expert is, as soon as it is there.
    """
    name = KILLED.format(every=every_s) if every_s else GONE
    with clients(child.url, bodies, number, pause_s=PAUSE_S, budget="accuracy") as load:
        kills_s: list[float] = []
        while (now := time.monotonic() - load.began) < seconds:
            due = not kills_s or now - kills_s[-1] >= every_s
            if due and (not every_s or child.running(victim)):
                hit = strike_all(child.replicas(f"expert-{victim}"))
                kills_s += [now] * hit
            time.sleep(0.1)
    return Phase(name, load, kills_s)


def calm(child: Child, bodies: list[bytes], *, seconds: float, number: int) -> Phase:
    """Keep clients busy, and that is all."""
    with clients(child.url, bodies, number, pause_s=PAUSE_S, budget="accuracy") as load:
        time.sleep(seconds)
    return Phase(CALM, load, [])


def draw(phases: list[Phase], deadline_ms: float) -> Figure:
    """Return the picture: every answer over time, complete or degraded, and the kills."""
    figure = new_figure(9.0, 3.8, "One expert's replica is killed: every answer to every client")
    axes = figure.subplots()
    shift = 0.0
    for phase in phases:
        end = max(answer.at_s for answer in phase.load.answers)
        for colour, degraded, z in ((BLUE, False, 1), (ORANGE, True, 2)):
            chosen = [a for a in phase.load.answers if bool(a.missing) == degraded]
            axes.scatter(
                [shift + a.at_s for a in chosen],
                [a.ms for a in chosen],
                s=3,
                color=colour,
                zorder=z,
                linewidths=0,
            )
        for index, kill in enumerate(phase.kills_s):
            label = "a kill" if index == 0 and phase is phases[1] else None
            axes.axvline(shift + kill, color=RED, lw=0.5, alpha=0.5, zorder=0, label=label)
        axes.text(shift, 1.02, f" {phase.name}", transform=axes.get_xaxis_transform(), fontsize=8)
        shift += end + 1.0
        axes.axvline(shift - 0.5, color=QUIET, lw=1.0)
    axes.scatter([], [], s=12, color=BLUE, label="complete answer")
    axes.scatter([], [], s=12, color=ORANGE, label="degraded answer")
    axes.axhline(deadline_ms, color=INK, lw=0.8, ls="--", label="deadline")
    axes.set_yscale("log")
    axes.set_xlabel("Seconds", color=INK)
    axes.set_ylabel("Milliseconds to the answer", color=INK)
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=4, bbox_to_anchor=(1.0, -0.12))
    make_plain(axes, grid="y")
    return figure


def main() -> None:
    """Run the series, print its rows, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--port", type=int, default=8249)
    parser.add_argument("--deadline-ms", type=float, default=2000.0)
    parser.add_argument("--out", type=Path, default=Path("faults.png"))
    args = parser.parse_args()
    bodies = [clip.read_bytes() for clip in args.clips]
    with served(args.run, args.port, "--deadline-ms", str(args.deadline_ms)) as child:
        victim = choose_victim(child, bodies[0])
        phases = [calm(child, bodies, seconds=args.seconds / 4, number=args.clients)]
        for every in (args.every, 0.0):
            settings = {"seconds": args.seconds, "every_s": every, "number": args.clients}
            phases.append(kill_series(child, bodies, victim, **settings))
    print(json.dumps({"victim": victim, "deadline_ms": args.deadline_ms}))
    for phase in phases:
        print(json.dumps(phase.row()))
    write_bytes(args.out, to_png(draw(phases, args.deadline_ms)))


if __name__ == "__main__":
    main()
