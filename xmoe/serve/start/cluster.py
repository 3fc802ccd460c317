"""Which Ray an application runs on: its own, or a cluster that others use.

On an existing cluster only the application itself is touched: another one of its name is left
alone, Serve is stopped only if it was started here and nobody else uses it by then, and Ray is only
disconnected from. A Ray of one's own is started even where RAY_ADDRESS names a cluster or ``ray
start`` runs on this host, both of which ``ray.init()`` would join.
"""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError, XmoeError

APP = "xmoe"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (what Serve says of itself, not what is listened to)
ANSWERS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Place:
    """The application's ``name``, and the ``address`` of the cluster that it joins, if any.

    On a cluster its routes begin with ``/NAME``. ``replace`` lets it take the place of an
    application that has its name already.
    """

    address: str | None = None
    name: str = APP
    replace: bool = False

    @property
    def route_prefix(self) -> str:
        return "/" if self.address is None else f"/{self.name}"


class _Http(Frozen, extra="ignore"):
    host: str | None = None
    port: int | None = None
    root_path: str = ""


class _Proxy(Frozen, extra="ignore"):
    node_ip: str | None = None


class _App(Frozen, extra="ignore"):
    route_prefix: str | None = None


class Neighbours(Frozen, extra="ignore"):
    """What runs on a Serve: where its proxies listen, and its applications."""

    http_options: _Http = _Http()
    proxies: Mapping[str, _Proxy] = {}
    applications: Mapping[str, _App] = {}


@contextmanager
def connected_to(address: str | None) -> Iterator[None]:
    """Join the cluster at ``address``, or start a Ray that is stopped again afterwards.

    ConfigError where no cluster answers.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address is None:
        ray.init(address="local", include_dashboard=False, **options)
    else:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"no cluster can be joined at {address}: {str(error).splitlines()[0]}",
                where="--address",
                mend="start one with `ray start --head`, or give the HOST:PORT that it printed; "
                "with RAY_AUTH_MODE=token where the cluster asks for its token",
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def look_around() -> Neighbours | None:
    """What runs on the Serve of the connected Ray; None where no Serve runs."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else Neighbours.model_validate(client.get_serve_details())


def check_room(around: Neighbours, place: Place) -> None:
    """Raise ConfigError where another application has this name or these routes."""
    if place.name in around.applications and not place.replace:
        raise ConfigError(
            f"an application named {place.name} runs there already",
            where="--name",
            mend="give another name, or --replace to take its place",
        )
    for name, app in around.applications.items():
        if name != place.name and app.route_prefix == place.route_prefix:
            raise ConfigError(
                f"the application {name} answers at {place.route_prefix} there",
                where="--name",
                mend="give another name",
            )


def find_address(around: Neighbours, prefix: str, here: str) -> str:
    """The URL of ``prefix``, seen from the node with the address ``here``."""
    http = around.http_options
    if http.host is None or http.port is None or not around.proxies:
        raise XmoeError(
            "Serve takes no HTTP requests there", mend="start Serve with a proxy_location"
        )
    host = http.host
    if host in EVERYWHERE:
        nodes = [proxy.node_ip for proxy in around.proxies.values() if proxy.node_ip]
        loopback = "127.0.0.1" if host == EVERYWHERE[0] else "::1"
        host = loopback if here in nodes or not nodes else nodes[0]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{http.port}{http.root_path}{prefix}".rstrip("/")


def check_answers(address: str, *, within_s: float = ANSWERS_WITHIN_S) -> None:
    """Raise XmoeError where the application does not answer at its address in time."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + within_s
    while True:
        try:
            with direct.open(f"{address}/healthz", timeout=5.0):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise XmoeError(
                    f"the application runs, but {address} does not answer from here",
                    mend="run this on the node of Serve's proxy, or let it listen beyond loopback",
                ) from error
        time.sleep(0.2)


def leave(name: str, *, stop_serve: bool) -> None:
    """Delete an application; with ``stop_serve`` also Serve, if no other uses it."""
    from ray import serve

    serve.delete(name)
    around = look_around()
    if stop_serve and (around is None or not around.applications):
        serve.shutdown()
