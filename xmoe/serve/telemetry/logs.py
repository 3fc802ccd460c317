"""Log lines as JSON, where the settings ask for them.

Ray Serve can write JSON itself, one file per replica, but under a request id of its own and with
other loggers' lines as bare text. So ours go through Serve's handlers, with level, time and place,
and carry the request id that the client was told.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

SERVE = "ray.serve"
OURS = "xmoe"
# One INFO line per request, written only where lines are JSON.
ACCESS = logging.getLogger("xmoe.access")

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class ThroughServe(logging.Handler):
    """Passes lines to the handlers of Serve's logger; ``whose`` names the replica they come from.

    What several requests share, such as a call to an expert, carries the id of the request that
    started it.
    """

    def __init__(self, **whose: str) -> None:
        super().__init__()
        self._whose = whose

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, without Serve's own request id."""
        fields = {"skip_context_filter": True, **self._whose}
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        record.__dict__.update(fields)
        for handler in logging.getLogger(SERVE).handlers:
            handler.handle(record)
            handler.flush()  # `xmoe serve` sets Serve to write in blocks of a thousand lines


def log_through_serve(**whose: str) -> None:
    """Send our lines to Serve's log, access lines included."""
    logger = logging.getLogger(OURS)
    logger.handlers = [ThroughServe(**whose)]
    logger.propagate = False
    ACCESS.setLevel(logging.INFO)
