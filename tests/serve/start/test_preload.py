"""A process of our own Ray has Ray Serve, and no pandas or Arrow until somebody asks for them."""

import json
import subprocess
import sys

from ray._private import arrow_serialization
from ray.util import serialization_addons

from xmoe.serve.start.session import FAST, PRELOAD

LOOK = f"""
import json, sys
if sys.argv[1] == "before":
    import pandas
import {PRELOAD}
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.get(ray.put({{"a": 1}}))
names = "ray.serve", "pandas", "pyarrow"
found = [name in sys.modules for name in names]
import pandas, pyarrow
table = pyarrow.table({{"a": [1, 2]}})
print(json.dumps([*found, pandas.DataFrame({{"a": [1, 2]}})["a"].sum().item(),
                  ray.get(ray.put(table)).equals(table)]))
"""


def look(when):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, when], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_serve_comes_without_pandas_and_arrow_which_can_be_imported_later():
    assert look("after") == [True, False, False, 3, True]


def test_pandas_that_is_there_already_stays():
    assert look("before")[:2] == [True, True]


def test_ray_still_has_what_is_switched_off():
    assert callable(arrow_serialization._register_custom_datasets_serializers)
    assert "_register_custom_datasets_serializers" in serialization_addons.apply.__code__.co_names


def test_workers_of_our_ray_import_it_first():
    assert FAST["RAY_preload_python_modules"] == PRELOAD
