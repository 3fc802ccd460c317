"""Lines of the log as JSON, where the settings ask for them.

Ray Serve can write its own lines so, in a file per replica, but under a request id of its own, and
what others log arrives there as bare text. So our lines go through Serve's handlers, with level,
time and place, and the request id is the one that the client was told.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

SERVE = "ray.serve"
OURS = "xmoe"
# One line for each request, INFO; nobody hears it unless the lines are JSON.
ACCESS = logging.getLogger("xmoe.access")

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class ThroughServe(logging.Handler):
    """Hands lines to the handlers of Serve's logger; ``whose`` says of which replica they are.

    What several requests share, such as a call to an expert, has the id of the one that began it.
    """

    def __init__(self, **whose: str) -> None:
        super().__init__()
        self._whose = whose

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; Serve is told to leave its own request id out."""
        fields = {"skip_context_filter": True, **self._whose}
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        record.__dict__.update(fields)
        for handler in logging.getLogger(SERVE).handlers:
            handler.handle(record)
            handler.flush()  # `xmoe serve` has Serve write a thousand lines at a time


def log_through_serve(**whose: str) -> None:
    """Have our lines written by Serve, those of single requests among them."""
    logger = logging.getLogger(OURS)
    logger.handlers = [ThroughServe(**whose)]
    logger.propagate = False
    ACCESS.setLevel(logging.INFO)
