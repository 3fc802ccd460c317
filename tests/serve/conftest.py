"""The router of a tiny run in this process, and a client of ASGI applications."""

import asyncio
import contextlib
import json
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from tests.fixtures.browser import CHROMIUM, FLAGS, Seen, running
from tests.fixtures.closed_runs import write_backbone_run, write_closed_run
from tests.fixtures.runs import RATE_HZ, make_sound, to_wav
from xmoe.predict.predictor import Predictor
from xmoe.profile.clip_stats import ClipStats, measure_samples
from xmoe.serve.experts.local import LocalExperts
from xmoe.serve.guard.tokens import single
from xmoe.serve.http.api import NOBODY, build_app
from xmoe.serve.http.explainer import Explainer
from xmoe.serve.http.service import Service
from xmoe.serve.router.router import RouterCore, load_router
from xmoe.serve.settings import ServeSettings
from xmoe.serve.watch.about import read_about

# Ray warns of its own settings, and leaves files and sockets to the collector.
OF_RAY = (
    "DeprecationWarning",
    "FutureWarning",
    "ResourceWarning",
    "pytest.PytestUnraisableExceptionWarning",
)


def slow_on_ray(test):
    """Mark a test that starts a Ray of its own."""
    for warning in OF_RAY:
        test = pytest.mark.filterwarnings(f"ignore::{warning}")(test)
    return pytest.mark.slow(pytest.mark.timeout(300)(test))


with warnings.catch_warnings():  # Ray warns of its own settings
    warnings.simplefilter("ignore")
    import ray.serve  # noqa: F401


@dataclass
class Reply:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


async def ask_asgi(
    app, method, path, *, body=b"", headers=None, query="", stalls=False, fails=False
):
    """What an ASGI application answers; ``body`` is bytes or a list of pieces."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    given = {"host": "localhost"} | {key.lower(): value for key, value in (headers or {}).items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(key.encode(), value.encode("latin-1")) for key, value in given.items()],
        "server": ("test", 80),
        "client": ("test", 1),
        "state": {},
    }
    sent = []

    async def receive():
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or stalls}
        await asyncio.sleep(3600)
        return None

    async def send(message):
        sent.append(message)

    with contextlib.suppress(KeyError) if fails else contextlib.nullcontext():
        await app(scope, receive, send)
    head = next(message for message in sent if message["type"] == "http.response.start")
    data = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    return Reply(
        head["status"], {key.decode().lower(): v.decode() for key, v in head["headers"]}, data
    )


def make_service(run, callers=None, **settings):
    """A service whose experts are in this process, or reached by ``callers``."""
    checked = ServeSettings(run=str(run), topology="colocated", **settings)
    predictor = load_router(checked)
    local = LocalExperts.load(checked, predictor.config).callers()
    router = RouterCore(predictor, local | (callers or {}), checked)
    explainer = Explainer(str(run), predictor.config)
    return Service(router, explainer=explainer, about=read_about(checked, predictor.config))


@pytest.fixture(scope="session")
def sound():
    return make_sound


@pytest.fixture(scope="session")
def wav():
    """The function that writes samples as bytes of a WAV file."""
    return to_wav


@pytest.fixture(scope="session")
def in_process(tiny_run):
    """The same run in this process, without serving."""
    return Predictor.load(tiny_run)


@pytest.fixture(scope="session")
def closed_run(tmp_path_factory):
    """A run whose experts hear sound and whose router asks in two rounds."""
    return write_closed_run(tmp_path_factory.mktemp("closed") / "run")


@pytest.fixture(scope="session")
def closed_in_process(closed_run):
    """The same run in this process, without serving."""
    return Predictor.load(closed_run)


@pytest.fixture(scope="session")
def backbone_run(tmp_path_factory):
    """A run whose third expert asks a network that others trained."""
    return write_backbone_run(tmp_path_factory.mktemp("backbone") / "run")


@pytest.fixture(scope="session")
def backbone_in_process(backbone_run):
    """The same run in this process, without serving."""
    return Predictor.load(backbone_run)


@pytest.fixture
def serve_run(tiny_run):
    """The function that makes a service; its threads are let go afterwards."""
    made = []

    def make(callers=None, run=tiny_run, **settings):
        service = make_service(run, callers, **settings)
        made.append(service)
        return service

    yield make
    for service in made:
        service.router.close()


@pytest.fixture(scope="module")
def ask_one(tiny_run):
    """As ``ask``, always the same application: for tests that leave nothing behind in it."""
    service = make_service(tiny_run)
    app = build_app(service)
    yield lambda method, path, **request: asyncio.run(ask_asgi(app, method, path, **request))
    service.router.close()


@pytest.fixture
def ask(serve_run):
    """The function that sends one request to an application of its own and returns the reply."""

    def call(method, path, *, service=None, token=None, **request):
        app = build_app(service or serve_run(), tokens=single(token))
        return asyncio.run(ask_asgi(app, method, path, **request))

    return call


@pytest.fixture
def ask_app():
    """The function that gives ``script`` a sender of requests to one application."""

    def call(service, script, *, token=None):
        app = build_app(service, tokens=single(token))

        async def send(method, path, **request):
            return await ask_asgi(app, method, path, **request)

        return asyncio.run(script(send))

    return call


@pytest.fixture(scope="session")
def clip_rows():
    """The function that makes rows of a table of training clips: tones in noise, at any level."""

    def make(count, split="train"):
        rows = []
        for seed in range(count):
            level = 10 ** np.random.default_rng(10_000 + seed).uniform(-0.5, 0.5)
            samples = make_sound(seed=seed % 7) * np.float32(level)
            rows.append(
                ClipStats(
                    clip_id=f"{split}-{seed}",
                    filepath=f"{seed}.wav",
                    start_s=0.0,
                    end_s=None,
                    labels=(("click", "tone")[seed % 2],),
                    split=split,
                    group=None,
                    sample_rate_hz=RATE_HZ,
                    channels=1,
                    bit_depth=32,
                    format="WAV",
                    duration_s=len(samples) / RATE_HZ,
                    peak=float(np.abs(samples).max()),
                    clipping_rate=0.0,
                    content_sha256=f"{split}-{seed}",
                    **vars(measure_samples(samples, sample_rate_hz=RATE_HZ)),
                )
            )
        return rows

    return make


@pytest.fixture(scope="module")
def chromium():
    """A Chromium with a microphone that beeps.

    While it is there no test may start an event loop of its own: those that do come before.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, serve_run):
    """The function that serves a run, the tiny one unless told, and opens a page of it.

    Yields the page, what it did, and the address of the service.
    """
    with contextlib.ExitStack() as stack:

        def go(path="/", *, service=None, tokens=NOBODY, **view):
            app = build_app(service or serve_run(), tokens=tokens)
            address = stack.enter_context(running(app))
            context = chromium.new_context(permissions=["microphone"], **view)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            seen = Seen(page)
            page.goto(address + path)
            return page, seen, address

        yield go
