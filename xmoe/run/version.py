"""Which runs this xmoe reads, and what to do about a run of another version.

The version is checked before anything else: a run of an older or newer xmoe is not damaged, and a
message about one of its fields would help nobody.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from xmoe.base.config import RunConfig
from xmoe.base.errors import RunFolderError, RunVersionError
from xmoe.base.version import VERSION

OURS: int = RunConfig.model_fields["schema_version"].default
MOST_SHOWN = 40


def check_version(settings: Any, *, where: str, read_dataset: Callable[[], Any]) -> None:
    """Raise RunVersionError unless the settings of a run, as they stand in its folder, are of ours.

    ``read_dataset`` reads what the run remembers of its data, for the command that trains again.
    """
    known = settings if isinstance(settings, dict) else {}
    found, writer = known.get("schema_version"), known.get("xmoe_version")
    if type(found) is int and found == OURS:
        return
    by = f"xmoe {writer[:MOST_SHOWN]}" if isinstance(writer, str) and writer else ""
    ours = f"xmoe {VERSION}, which is running, reads version {OURS}"
    if type(found) is int and found > OURS:
        raise RunVersionError(
            f"the run was written by a newer xmoe: it is of version {_with(found, by)}; {ours}",
            where=where,
            mend=f"install {by or 'the xmoe that wrote it'}, or one that is newer still",
        )
    again = f"train again: {_train_command(read_dataset)}"
    if type(found) is int and found > 0:
        what = f"the run is of version {_with(found, by)}; {ours}"
        mend = f"{again}; or install {by or 'the xmoe that wrote it'}"
    elif found is None:
        what, mend = f"the run names no schema_version: who wrote it is unknown; {ours}", again
    else:
        shown = json.dumps(found)[:MOST_SHOWN]
        what, mend = f"the run's schema_version is {shown}, which is no version; {ours}", again
    raise RunVersionError(what, where=where, mend=mend)


def _with(version: int, by: str) -> str:
    return f"{version} ({by})" if by else str(version)


def _train_command(read_dataset: Callable[[], Any]) -> str:
    """The command that trains on the data of a run, as far as its records tell."""
    try:
        data = read_dataset()
    except RunFolderError:
        data = None
    known = data if isinstance(data, dict) else {}
    options = {"--dataset": known.get("root"), "--metadata": known.get("metadata")}
    given = {name: value for name, value in options.items() if isinstance(value, str)}
    words = [word for pair in ({"--dataset": "DATASET"} | given).items() for word in pair]
    return shlex.join(["xmoe", "train", *words, "--out", "NEW"])
