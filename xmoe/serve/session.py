"""A Ray Serve of one's own for as long as ``xmoe serve`` runs."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xmoe.errors import ConfigError, XmoeError
from xmoe.serve.settings import ServeSettings, read_token

APP = "xmoe"
# Ray counts a socket as one request; what a request may take is kept inside (clock.py).
BEYOND_A_STREAM_S = 60.0
DRAIN_S = 10.0
LOG = logging.getLogger("xmoe.serve")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_address(host: str, settings: ServeSettings) -> None:
    """Raise ConfigError for an address that others reach where no token is set."""
    if host not in LOOPBACK and read_token(settings.http) is None:
        raise ConfigError(
            f"{host} can be reached by others, and no token is set",
            where="--host",
            mend=f"set {settings.http.token_variable} or --token-file, or use 127.0.0.1",
        )


def check_port(host: str, port: int) -> None:
    """Raise ConfigError for an address at which another listens, or that is not this machine's.

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
            f"{host} port {port} cannot be listened to: {error.strerror}",
            where="--host",
            mend="give an address of this machine, and a port above 1023",
        ) from error


@contextmanager
def serving(settings: ServeSettings, *, host: str, port: int) -> Iterator[str]:
    """Serve a run on a Ray of this process, or on the one that is connected; yield its address.

    Afterwards the application is drained and what was started here is stopped. Raises ConfigError
    for settings or an address that will not do, RunFolderError for a run that cannot be read.
    """
    import ray
    from ray import serve

    from xmoe.serve.build import build_application

    check_address(host, settings)
    if not (ray.is_initialized() and serve.status().proxies):
        check_port(host, port)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    proxy_s = settings.http.max_stream_s + BEYOND_A_STREAM_S
    application = build_application(settings)
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port, "request_timeout_s": proxy_s},
            logging_config={"enable_access_log": False},
        )
        try:
            serve.run(application, name=APP, route_prefix="/")
        except RuntimeError as error:
            raise XmoeError(
                "the deployments did not start",
                mend="look at the replica's own words in /tmp/ray/session_latest/logs/serve",
            ) from error
        yield f"http://{host if host != '::1' else '[::1]'}:{port}"
        drain()
    finally:
        serve.shutdown()
        if started:
            ray.shutdown()


def drain(timeout_s: float = DRAIN_S) -> None:
    """Have every router answer what it holds and send new requests away."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from xmoe.serve.build import ROUTER

    router = serve.get_deployment_handle(ROUTER, APP)
    try:
        router.broadcast("drain", timeout_s).results(timeout_s=timeout_s + 2.0)
    except (RayError, RayServeException, TimeoutError) as error:
        LOG.warning("not every router could be drained: %s", type(error).__name__)


def wait_for_signal() -> None:
    """Return at SIGINT (Ctrl-C) or SIGTERM."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while not stop.wait(1.0):
            continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
