"""What the process of an expert imports: the expert, and what loads it."""

import asyncio
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.serve.experts.expert import Weights
from xmoe.serve.experts.expert_replica import ExpertReplica
from xmoe.serve.experts.local import to_arrays
from xmoe.serve.start.build import declare

# All of ours that an expert may bring. Eight experts are eight processes, so each module here is
# paid for eight times: the router, front ends, audio and training are not among them.
MAY_IMPORT = {
    "xmoe",
    "xmoe.base",
    "xmoe.base.backbone",
    "xmoe.base.config",
    "xmoe.base.errors",
    "xmoe.base.files",
    "xmoe.base.layers",
    "xmoe.base.version",
    "xmoe.experts",
    "xmoe.experts.cnn",
    "xmoe.experts.protocol",
    "xmoe.experts.registry",
    "xmoe.run",
    "xmoe.run.folder",
    "xmoe.run.pretrained",
    "xmoe.run.remote",
    "xmoe.run.version",
    "xmoe.serve",
    "xmoe.serve.experts",
    "xmoe.serve.experts.expert",
    "xmoe.serve.experts.expert_replica",
    "xmoe.serve.experts.process",
    "xmoe.serve.experts.turn",
    "xmoe.serve.settings",
    "xmoe.serve.telemetry",
    "xmoe.serve.telemetry.traces",
    "xmoe.storage",
    "xmoe.storage.place",
}
# What an expert brings that hears sound with a front end of its own, all kinds of them.
HEARS = {
    "xmoe.audio",
    "xmoe.audio.resample",
    "xmoe.base.memory",
    "xmoe.base.task",
    "xmoe.base.units",
    "xmoe.experts.head",
    "xmoe.experts.kernel_bank",
    "xmoe.experts.kernels",
    "xmoe.experts.sound",
    "xmoe.frontend",
    "xmoe.frontend.base",
    "xmoe.frontend.cqt",
    "xmoe.frontend.cwt",
    "xmoe.frontend.filterbank",
    "xmoe.frontend.mel",
    "xmoe.frontend.pcen",
    "xmoe.frontend.registry",
    "xmoe.frontend.stft",
}
# Ray brings some of these into each of its processes; we bring none.
NOT_OURS_TO_BRING = {
    "fastapi",
    "matplotlib",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "sklearn",
    "soundfile",
    "starlette",
    "torchaudio",
}
START = """
import json, pickle, sys
kind = pickle.loads(bytes.fromhex(sys.argv[1]))
kind({"run": sys.argv[2]}, sys.argv[3])
print(json.dumps(list(sys.modules)))
"""


@pytest.fixture(scope="module")
def modules_of():
    """The function that returns the modules of a process that does what Ray's do: unpickle the
    class, then make a replica.
    """

    def start(run, name) -> set[str]:
        pickled = declare(ExpertReplica, name=name)._replica_config.serialized_deployment_def
        command = [sys.executable, "-c", START, pickled.hex(), str(run), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))

    return start


def ours(imported):
    return {name for name in imported if name.split(".")[0] == "xmoe"}


def test_an_expert_process_imports_an_expert(modules_of, tiny_run):
    imported = modules_of(tiny_run, "low")
    assert ours(imported) == MAY_IMPORT
    assert imported & NOT_OURS_TO_BRING == set()


def test_one_that_hears_sound_brings_front_ends_too(modules_of, closed_run):
    imported = modules_of(closed_run, "second")
    assert ours(imported) == MAY_IMPORT | HEARS
    assert imported & NOT_OURS_TO_BRING == {"torchaudio"}


def test_one_that_asks_a_network_brings_no_front_end(modules_of, backbone_run):
    imported = modules_of(backbone_run, "third")
    assert {"xmoe.backbones.onnx", "onnxruntime"} <= imported
    assert not {"xmoe.experts.kernels", "xmoe.frontend.base"} & imported
    assert imported & (NOT_OURS_TO_BRING - {"scipy"}) == {"torchaudio"}


def test_a_call_of_sound_is_answered_beside_the_event_loop(closed_run, closed_in_process):
    specs, sound = closed_in_process.hear(make_sound(1.0), RATE_HZ)
    plan, inputs = closed_in_process.model.prepare(
        specs, closed_in_process.config.routing, sound=sound, k=2
    )
    request = closed_in_process.model.requests(plan, inputs)[1]
    replica = ExpertReplica({"run": str(closed_run)}, request.name)
    weights = Weights(str(closed_run), "best", replica._versions.own.weights_sha256)
    infer, threads = replica._versions.own.infer, []

    def note(payload):
        threads.append(threading.current_thread())
        return infer(payload)

    replica._versions.own.infer = note
    logits = asyncio.run(replica.infer(to_arrays(request), 5.0, weights))
    expected = closed_in_process.experts[request.name](request).numpy()
    assert threads != [threading.current_thread()]
    np.testing.assert_allclose(logits, expected, atol=1e-6)
