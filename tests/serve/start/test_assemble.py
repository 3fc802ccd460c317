"""What a router's process imports, and what an exception from an expert's handle means."""

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.exceptions
from ray.serve.exceptions import BackPressureError

from tests.fixtures.runs import make_sound, to_wav
from xmoe.profile.table import rows_to_parquet
from xmoe.run.folder import RunFile
from xmoe.serve.experts.expert import OtherRun
from xmoe.serve.start.assemble import kind_of_failure

# Each takes long to import or much memory, and no answer needs it.
NEVER_ASKED = {"matplotlib", "pandas", "pyarrow.dataset", "scipy.stats", "sklearn"}
START = """
import json, sys
import xmoe.serve.start.preload
from xmoe.serve.start.router_replica import RouterReplica
before = list(sys.modules)
replica = RouterReplica({"run": sys.argv[1], "topology": "colocated"})
print(json.dumps([before, list(sys.modules)]))
"""


def test_a_router_imports_what_it_answers_with_once_it_is_made(closed_run, tmp_path):
    run = shutil.copytree(closed_run, tmp_path / "run")
    (run / RunFile.CLIPS).write_bytes(rows_to_parquet([]))
    pq.write_table(
        pa.table({"labels": [["a"]], "wav": [to_wav(make_sound())]}), run / RunFile.SAMPLES
    )
    command = [sys.executable, "-c", START, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (set(names) for names in json.loads(done.stdout))
    assert not (NEVER_ASKED | {"torch", "xmoe.serve.http.service"}) & before
    assert {"torch", "xmoe.serve.http.service"} <= after
    assert after & NEVER_ASKED == set()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), "overloaded"),
        (ray.exceptions.ActorDiedError(), "dead"),
        (ray.exceptions.ActorUnavailableError("gone", None), "dead"),
        (TimeoutError(), "timeout"),
        (ValueError(), "error"),
        (ray.exceptions.RayTaskError("f", "", TimeoutError()), "timeout"),
        (ray.exceptions.RayTaskError("f", "", OtherRun()), "other_run"),
        (ray.exceptions.RayTaskError("f", "", ValueError()), "error"),
    ],
)
def test_what_an_exception_means(error, kind):
    assert kind_of_failure(error) == kind
