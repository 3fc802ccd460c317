"""What the process of an expert imports: the expert, and what loads it."""

import json
import subprocess
import sys

import pytest

from xmoe.serve.build import declare
from xmoe.serve.expert_replica import ExpertReplica

# All of ours that an expert may bring. Eight experts are eight processes, so each module here is
# paid for eight times: the router, front ends, decoding and training are not among them.
MAY_IMPORT = {
    "xmoe",
    "xmoe.audio",
    "xmoe.audio.segment",
    "xmoe.audio.sound",
    "xmoe.base",
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
    "xmoe.run.remote",
    "xmoe.run.version",
    "xmoe.serve",
    "xmoe.serve.expert",
    "xmoe.serve.expert_replica",
    "xmoe.serve.process",
    "xmoe.serve.settings",
    "xmoe.storage",
    "xmoe.storage.place",
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
kind({"run": sys.argv[2]}, "low")
print(json.dumps(list(sys.modules)))
"""


@pytest.fixture(scope="module")
def imported(tiny_run) -> set[str]:
    """The modules of a process that does what Ray's do: unpickle the class, then make a replica."""
    pickled = declare(ExpertReplica, name="expert-low")._replica_config.serialized_deployment_def
    command = [sys.executable, "-c", START, pickled.hex(), str(tiny_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_an_expert_process_imports_an_expert(imported):
    assert {name for name in imported if name.split(".")[0] == "xmoe"} == MAY_IMPORT


def test_an_expert_process_brings_no_library_that_it_has_no_use_for(imported):
    assert imported & NOT_OURS_TO_BRING == set()
