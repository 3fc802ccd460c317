"""A hot expert goes from one replica to three and back by itself; the others stay at one."""

import importlib
import json
import socket
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
autoscaling = importlib.import_module("autoscaling")

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hot_expert_scales_up_and_down_alone(tiny_run, tmp_path, wav, sound):
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav(sound()))
    timeline, load, numbers = autoscaling.measure(
        tiny_run, clip, expert="low", callers=8, hot_s=30.0, rows=64, port=free_port()
    )
    print(json.dumps(numbers))
    assert 0.0 < numbers["decided_s"] < 15.0
    assert numbers["decided_s"] <= numbers["serving_s"] < 30.0
    assert 0.0 < numbers["gone_s"] < 30.0
    assert numbers["most_replicas_of_others"] == 1
    assert numbers["http"]["statuses"] == {"200": load.sent}
    assert autoscaling.to_png(autoscaling.draw(timeline, load, "low"))[:4] == b"\x89PNG"
