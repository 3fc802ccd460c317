"""The servers that ``benchmarks/serving.py`` compares with; started by it, one process tree each.

python benchmarks/serving_peers.py NAME --run RUN --port PORT
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import yaml
from ray import serve
from starlette.requests import Request
from starlette.types import ASGIApp, Message

from xmoe.audio.clip import read_clip
from xmoe.audio.segment import Segment
from xmoe.experts.protocol import ExpertReply
from xmoe.mixture.combine import combine
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor
from xmoe.run.remote import open_run
from xmoe.serve.experts.expert import ExpertCore
from xmoe.serve.experts.local import to_arrays
from xmoe.serve.router.router import load_router
from xmoe.serve.settings import ServeSettings
from xmoe.serve.start.build import check_settings
from xmoe.serve.start.router_replica import RouterReplica
from xmoe.serve.start.session import serving, wait_for_signal

try:
    import litserve
except ImportError:  # of the extra `bench`; all other ways do without
    litserve = None

BASELINE = Path(__file__).parents[1] / "deployments" / "baseline.yaml"
BATCH = 32


class NaiveExpert:
    """One expert that answers one request at a time."""

    def __init__(self, run: str, name: str) -> None:
        torch.set_num_threads(1)
        self._core = ExpertCore.load(run, name)

    def __call__(self, payload: Any) -> Any:
        """Return logits of one request."""
        return self._core.infer(payload)


class NaiveRouter:
    """Front end and plan, then every expert, one call each, for one request at a time."""

    def __init__(self, run: str, handles: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._predictor = load_router(ServeSettings(run=run))
        self._handles = handles

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer for one recording."""
        clip = read_clip(io.BytesIO(await request.body()))
        predictor = self._predictor
        specs, sound = predictor.hear(clip.samples, clip.sample_rate_hz)
        model, routing = predictor.model, predictor.config.routing
        plan, inputs = model.prepare(specs, routing, sound=sound, k=len(self._handles))
        requests = model.requests(plan, inputs)
        calls = [self._handles[asked.name].remote(to_arrays(asked)) for asked in requests]
        replies = {
            asked.name: ExpertReply(asked.rows, torch.from_numpy(np.array(await call)))
            for asked, call in zip(requests, calls, strict=True)
        }
        answers = predictor.read_combined(plan, combine(plan, replies))
        return predictor.summarise(answers).model_dump()


def serve_naive(run: str, port: int) -> None:
    """Serve the experts with Ray Serve's own defaults; the least CPU share lets all of them fit."""
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        names = open_run(run, []).read_config().model.callable_experts
        share = {"num_cpus": 0.1}
        experts = {
            name: serve.deployment(
                NaiveExpert, name=f"expert-{name}", ray_actor_options=share
            ).bind(run, name)
            for name in names
        }
        router = serve.deployment(NaiveRouter, name="router", ray_actor_options=share)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(router.bind(run, experts), name="naive", route_prefix="/")
        wait_for_signal()
    finally:
        serve.shutdown()
        ray.shutdown()


def serve_baseline(run: str, port: int) -> None:
    """Serve the settings of ``deployments/baseline.yaml``, with the Python ingress as there."""
    args = yaml.safe_load(BASELINE.read_text())["applications"][0]["args"]
    settings = check_settings(args | {"run": run})
    with serving(settings, host="127.0.0.1", port=port, ingress="python"):
        wait_for_signal()


class WholeModel(object if litserve is None else litserve.LitAPI):
    """The whole model behind LitServe; requests that wait are answered as one batch."""

    def __init__(self, run: str, **options: Any) -> None:
        super().__init__(**options)
        self._run = run

    def setup(self, device: str) -> None:
        """Load the model."""
        torch.set_num_threads(1)
        self._predictor = Predictor.load(self._run)

    def decode_request(self, request: dict[str, str]) -> list[Segment]:
        """Return the segments of one recording."""
        clip = read_clip(io.BytesIO(base64.b64decode(request["audio"])))
        return self._predictor.cut(clip.samples, clip.sample_rate_hz)

    def batch(self, inputs: list[list[Segment]]) -> list[list[Segment]]:
        """Keep the recordings apart; they may have different numbers of segments."""
        return inputs

    def predict(self, inputs: list[list[Segment]]) -> list[SegmentAnswers]:
        """Answer all segments of all recordings at once."""
        specs = torch.cat([self._predictor.measure(own) for own in inputs])
        sound = self._predictor.sound_of([one for own in inputs for one in own])
        answers = self._predictor.answer_segments(specs, sound)
        columns = [column.split([len(own) for own in inputs]) for column in vars(answers).values()]
        return [SegmentAnswers(*parts) for parts in zip(*columns, strict=True)]

    def unbatch(self, output: list[SegmentAnswers]) -> list[SegmentAnswers]:
        """Return one answer per recording."""
        return output

    def encode_response(self, output: SegmentAnswers) -> dict[str, Any]:
        """Return what is sent."""
        return self._predictor.summarise(output).model_dump()


def serve_litserve(run: str, port: int) -> None:
    """Serve the whole model with LitServe: one worker, as the router here is one replica."""
    if litserve is None:
        raise SystemExit("litserve is not here: pip install 'xmoe[bench]'")
    api = WholeModel(run, max_batch_size=BATCH, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


Call = Callable[[int], None]


def load_predict(run: str, files: list[Path]) -> Call:
    """Return ``predict`` on one of the recordings, which are decoded here."""
    torch.set_num_threads(1)
    predictor = Predictor.load(run)
    clips = [read_clip(file) for file in files]

    def predict(index: int) -> None:
        clip = clips[index % len(clips)]
        predictor.predict(clip.samples, clip.sample_rate_hz)

    return predict


def load_from_bytes(run: str, files: list[Path]) -> Call:
    """Return decoding and ``predict`` on one of the recordings."""
    torch.set_num_threads(1)
    predictor = Predictor.load(run)
    bodies = [file.read_bytes() for file in files]

    def predict(index: int) -> None:
        clip = read_clip(io.BytesIO(bodies[index % len(bodies)]))
        predictor.predict(clip.samples, clip.sample_rate_hz)

    return predict


def time_calls(call: Call, predict: Call, seconds: float) -> None:
    """Print the figures of a function that takes turns with ``predict``; a second is warm-up."""

    def time_one(function: Call, index: int) -> tuple[float, float]:
        began, cpu_s = time.perf_counter(), time.process_time()
        function(index)
        return 1000.0 * (time.perf_counter() - began), 1000.0 * (time.process_time() - cpu_s)

    def go_on(duration_s: float) -> tuple[Any, Any]:
        took, own = [], []
        end = time.perf_counter() + duration_s
        while time.perf_counter() < end:
            own.append(time_one(predict, len(own)))
            took.append(time_one(call, len(took)))
        return np.array(took), np.array(own)

    go_on(min(1.0, seconds))
    took, own = go_on(seconds)
    p50, p99 = np.percentile(took[:, 0], [50, 99])
    figures = {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "per_second": 1000.0 / float(np.mean(took[:, 0])),
        "cpu_ms": float(np.mean(took[:, 1])),
        "over_predict_ms": float(p50 - np.median(own[:, 0])),
    }
    print(json.dumps(figures))


def time_rounds(call: Call) -> None:
    """For each line of seconds that comes in, print the median of a loop that lasts so long.

    Loops go on with the recordings where the one before ended: a network remembers what it heard.
    """
    index = itertools.count()
    for line in sys.stdin:
        took: list[float] = []
        end = time.perf_counter() + float(line)
        while (began := time.perf_counter()) < end:
            call(next(index))
            took.append(1000.0 * (time.perf_counter() - began))
        print(float(np.median(took)), flush=True)


async def call_application(application: ASGIApp, body: bytes) -> None:
    """Send one recording to an ASGI application as a server would, but from memory."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/classify",
        "raw_path": b"/v1/classify",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/octet-stream")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await application(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"the application answered {statuses}")


def load_asgi(run: str, files: list[Path]) -> Call:
    """Return a call of the colocated service in this process, without a socket."""
    torch.set_num_threads(1)
    settings = ServeSettings(run=run, topology="colocated")
    application = RouterReplica(settings.model_dump(mode="json")).__serve_build_asgi_app__()
    bodies = [file.read_bytes() for file in files]
    runner = asyncio.Runner()

    def ask(index: int) -> None:
        runner.run(call_application(application, bodies[index % len(bodies)]))

    return ask


SERVERS = {"naive": serve_naive, "baseline": serve_baseline, "litserve": serve_litserve}
LOOPS = {"predict": load_predict, "from_bytes": load_from_bytes, "asgi": load_asgi}


def main() -> None:
    """Run one of them until it is told to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=[*SERVERS, *LOOPS, "rounds"])
    parser.add_argument("--run", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("files", type=Path, nargs="*")
    asked = parser.parse_intermixed_args()
    run = str(Path(asked.run).resolve())
    if asked.name == "rounds":
        time_rounds(load_predict(run, asked.files))
    elif asked.name in LOOPS:
        call = LOOPS[asked.name](run, asked.files)
        time_calls(call, load_predict(run, asked.files), asked.seconds)
    else:
        SERVERS[asked.name](run, asked.port)


if __name__ == "__main__":
    main()
