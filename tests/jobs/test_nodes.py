"""Three nodes, of which one is removed in the middle of profiling, training and serving.

The nodes are Rays of this machine, below this test, with files and ports of their own.
"""

import io
import json
import socket
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile as sf

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.files import to_json
from xmoe.jobs.profile import profile_with_ray
from xmoe.jobs.train import train_with_ray
from xmoe.profile.assemble import profile_dataset
from xmoe.run.folder import RunFolder
from xmoe.training.session import read_history

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
chaos = import_module("chaos")

# Ray warns of its own settings, and leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RATE_HZ = 16_000
CLIPS = 240
CLIENTS = 4


class Nodes:
    """A head, which the test is connected to, and two nodes of one processor each."""

    def __init__(self, cluster):
        self.cluster = cluster

    def hosts(self, word):
        """Return the nodes, the head left out, below which a process of that name runs."""
        return [
            node
            for node in self.cluster.worker_nodes
            if any(word in name_of(process) for process in processes_of(node))
        ]

    def remove(self, node, within_s=20.0):
        """Kill a node at once, and see to it that everything that ran there has ended."""
        there = processes_of(node)
        assert there
        self.cluster.remove_node(node, allow_graceful=False)
        until = time.monotonic() + within_s
        while any(name_of(process) for process in there):
            assert time.monotonic() < until, [name_of(process) for process in there]
            time.sleep(0.1)


def processes_of(node):
    """Return the processes of a node, which are descendants of this one."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    assert psutil.Process() in raylet.parents()
    return raylet.children(recursive=True)


def name_of(process):
    """Return the command of a process, nothing where it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


@pytest.fixture
def nodes(no_ray, monkeypatch):
    import ray
    from ray._private.authentication import authentication_token_setup as tokens
    from ray.cluster_utils import Cluster

    # As ray.init does for a Ray of its own: a process keeps the kind of its first one.
    tokens.enable_token_auth_by_default()
    tokens.ensure_token_if_auth_enabled(None, create_token_if_missing=True)
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        # Ray notes its newest cluster in this folder, where others would find it and connect.
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield Nodes(cluster)
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture
def recordings(tmp_path):
    """Recordings of three seconds, of two classes."""
    examples = []
    for index in range(CLIPS):
        samples = 0.1 * np.random.default_rng(index).standard_normal(3 * RATE_HZ)
        sf.write(tmp_path / f"{index:03d}.wav", samples, RATE_HZ, subtype="PCM_16")
        split = ("train", "train", "val", "test")[index % 4]
        examples.append(Example(f"{index:03d}.wav", split, (("x", "y")[index % 2],), row=index))
    return Dataset(tmp_path, tuple(examples), ("x", "y"), "single_label")


def test_node_removed_in_profiling_changes_no_byte(nodes, recordings):
    removed = []

    def remove(stage, done, total=None, note=""):
        if not removed:
            removed.append(done)
            nodes.remove(next(iter(nodes.cluster.worker_nodes)))

    result = profile_with_ray(recordings, num_blocks=48, progress=remove)
    print(json.dumps({"removed after": removed, "of": CLIPS}))
    assert removed[0] < CLIPS / 2
    assert not result.quarantined
    assert to_json(result.profile) == to_json(profile_dataset(recordings).profile)


def test_node_removed_in_training_changes_no_bit(
    nodes, write_job, elsewhere, tmp_path, assert_same_weights
):
    job = write_job(tmp_path, clips=480, epochs=4, num_workers=2)
    calm, struck = elsewhere(job, tmp_path / "calm"), elsewhere(job, tmp_path / "struck")
    train_with_ray(calm)
    removed = []

    def remove(stage, done, total=None, note=""):
        if not removed and done >= 2:
            removed.append(done)
            nodes.remove(nodes.hosts("RayTrainWorker")[0])

    train_with_ray(struck, remove)
    assert removed
    assert removed[0] < 4
    assert [row["epoch"] for row in read_history(RunFolder(struck.run))] == [1, 2, 3, 4]
    assert_same_weights(calm.run, struck.run)


def test_node_removed_in_serving_costs_no_more_than_what_it_held(nodes, tiny_run):
    from xmoe.serve.settings import ServeSettings
    from xmoe.serve.start.session import serving

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    router = {"replicas": 2, "num_cpus": 0.3}
    settings = ServeSettings(run=str(tiny_run), router=router)
    bodies = [to_wav(0.1 * np.random.default_rng(seed).standard_normal(3200)) for seed in range(4)]
    with serving(settings, host="127.0.0.1", port=port) as url:
        with chaos.clients(url, bodies, CLIENTS, pause_s=0.05) as load:
            time.sleep(8.0)
            before = len(load.answers)
            (victim, *_) = nodes.hosts("ServeReplica:xmoe:router")
            nodes.remove(victim)
            whole_s = wait_until_whole(load)
        row = chaos.summarise(load)
        print(json.dumps({"whole after s": whole_s, **row}))
        lost = [answer for answer in load.answers if answer.status != 200]
        assert before > 0
        assert row["sent"] == row["answered"]
        assert len(lost) <= CLIENTS


def wait_until_whole(load, within_s=180.0, steady_s=15.0):
    """Return for how many seconds from now answers were lost or lacked an expert.

    Returns once there was none for some time; at once would be before anybody noticed the loss.
    """
    removed_s = now_s = time.monotonic() - load.began
    while now_s < removed_s + within_s:
        poor = [one.at_s for one in list(load.answers) if one.status != 200 or one.missing]
        last_s = max([removed_s, *poor])
        if now_s - last_s > steady_s:
            return round(last_s - removed_s, 1)
        time.sleep(1.0)
        now_s = time.monotonic() - load.began
    pytest.fail(f"still without an expert after {within_s:g} s: {load.answers[-1]}")


def to_wav(samples):
    buffer = io.BytesIO()
    sf.write(buffer, samples, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
