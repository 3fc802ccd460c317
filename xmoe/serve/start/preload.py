"""Ray Serve without pandas: imported first by every process of a Ray of one's own.

Where pandas is there, Ray Serve imports it to turn data frames into JSON. Nothing here makes one,
and each process pays 70 MB and a third of a second. Whoever imports pandas afterwards gets it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

HIDDEN = cast("ModuleType", None)  # of such a module Python says that there is none

found = sys.modules.setdefault("pandas", HIDDEN)
try:
    import ray.serve  # noqa: F401
finally:
    if found is HIDDEN:
        del sys.modules["pandas"]
