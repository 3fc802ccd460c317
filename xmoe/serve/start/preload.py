"""Ray Serve without pandas and Arrow: imported first by every process of a Ray of one's own.

Where pandas is there, Ray Serve imports it to turn data frames into JSON, and Ray imports Arrow to
send its tables from process to process. Nothing here makes either, and each process pays 70 and 28
MB, and a third of a second. Whoever imports them afterwards gets them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

from ray._private import arrow_serialization

HIDDEN = cast("ModuleType", None)  # of such a module Python says that there is none


def send_no_tables(context: object) -> None:
    """Register nothing; Arrow's tables are then sent as pickle sends them."""


arrow_serialization._register_custom_datasets_serializers = send_no_tables
found = sys.modules.setdefault("pandas", HIDDEN)
try:
    import ray.serve  # noqa: F401
finally:
    if found is HIDDEN:
        del sys.modules["pandas"]
