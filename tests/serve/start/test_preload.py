"""A process of our own Ray has Ray Serve, and no pandas until somebody asks for it."""

import json
import subprocess
import sys

from xmoe.serve.start.session import FAST, PRELOAD

LOOK = f"""
import json, sys
if sys.argv[1] == "before":
    import pandas
import {PRELOAD}
found = ["ray.serve" in sys.modules, "pandas" in sys.modules]
import pandas
print(json.dumps([*found, pandas.DataFrame({{"a": [1, 2]}})["a"].sum().item()]))
"""


def look(when):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, when], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_serve_comes_without_pandas_which_can_be_imported_later():
    assert look("after") == [True, False, 3]


def test_pandas_that_is_there_already_stays():
    assert look("before") == [True, True, 3]


def test_workers_of_our_ray_import_it_first():
    assert FAST["RAY_preload_python_modules"] == PRELOAD
