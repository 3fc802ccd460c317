"""A name in ``SpectroConfig`` -> the front end it means."""

from __future__ import annotations

from collections.abc import Callable

from xmoe.base.config import SpectroConfig
from xmoe.base.errors import ConfigError
from xmoe.base.memory import keep_blocks
from xmoe.frontend.base import Frontend
from xmoe.frontend.cqt import Cqt
from xmoe.frontend.cwt import Cwt
from xmoe.frontend.mel import LogMel
from xmoe.frontend.pcen import Pcen
from xmoe.frontend.stft import Stft

FRONTENDS: dict[str, Callable[[SpectroConfig], Frontend]] = {
    "stft": Stft,
    "logmel": LogMel,
    "pcen": Pcen,
    "cqt": Cqt,
    "cwt": Cwt,
}


def build_frontend(config: SpectroConfig) -> Frontend:
    """Build the front end of ``config`` with its tables, on the CPU.

    Raises ``ConfigError`` for an unknown front end.
    """
    keep_blocks()  # every process that answers comes by here
    if config.frontend not in FRONTENDS:
        what = f"no front end called {config.frontend!r}"
        raise ConfigError(what, where="frontend", mend=f"choose one of {', '.join(FRONTENDS)}")
    return FRONTENDS[config.frontend](config)
