"""Every refusal over HTTP: status, code, message and how to mend it.

    400 bad_request, bad_form, bad_json,   413 too_large, too_long      429 overloaded
        bad_coding, unknown_output
    401 unauthorised                       415 not_audio, unsupported   503 too_few_experts
    404 not_found    405 bad_method        421 foreign_host
                                           422 everything else that is wrong with a recording
    408 body_timeout                       500 internal                 503 draining, other_version
    507 full

A message never holds a file name, a sample or an address of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from xmoe.base.config import Frozen
from xmoe.base.errors import AudioError, InputError, RunFolderError, RunVersionError, XmoeError
from xmoe.serve.router.batching import QueueFull
from xmoe.serve.router.fanout import TooFewExperts

AUDIO_STATUS: Mapping[str, int] = {
    "not_audio": 415,
    "unsupported": 415,
    "too_large": 413,
    "too_long": 413,
}
FORMATS = "send WAV, FLAC, OGG, MP3 or AIFF, or JSON with samples and sample_rate_hz"
CUT_HINT = "cut it and send the parts one by one; /v1/model tells the limits"
RUN_HINT = "whoever runs the server serves a run of this version, or the version of this run"


class Problem(Frozen):
    """The body of every refusal; under ``/v2`` its ``error`` is what that protocol asks for."""

    code: str
    message: str
    hint: str
    request_id: str = ""
    error: str | None = None


class HttpProblem(Exception):
    """A request that is refused; ``retry_after_s`` becomes the header Retry-After."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, message=message, hint=hint)
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


def describe_error(error: Exception, *, retry_after_s: int = 1) -> HttpProblem:
    """Return how an error is told over HTTP; an unknown one tells nothing of itself."""
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, AudioError):
        status = AUDIO_STATUS.get(error.code, 422)
        hint = CUT_HINT if status == 413 else error.mend or FORMATS
        return HttpProblem(status, error.code, error.what, hint=hint)
    if isinstance(error, RunVersionError):
        return HttpProblem(
            503, "other_version", error.what, hint=RUN_HINT, retry_after_s=retry_after_s
        )
    if isinstance(error, InputError) and not isinstance(error, RunFolderError):
        message = f"{error.where}: {error.what}" if error.where else error.what
        return HttpProblem(422, "bad_input", message, hint=error.mend or FORMATS)
    if isinstance(error, QueueFull):
        return busy(retry_after_s)
    if isinstance(error, TooFewExperts):
        return HttpProblem(
            503,
            "too_few_experts",
            "too few experts answered in time",
            hint="try again, with a longer deadline_ms, or with k_max=0 for the stem alone",
            retry_after_s=retry_after_s,
        )
    if isinstance(error, MemoryError):
        return busy(retry_after_s)
    code = "storage" if isinstance(error, XmoeError) else "internal"
    return HttpProblem(
        500, code, "the server failed", hint="try again; the request id finds it in the logs"
    )


def busy(retry_after_s: int) -> HttpProblem:
    """Return the refusal of a request for which there is no room now."""
    return HttpProblem(
        429,
        "overloaded",
        "too many requests wait",
        hint="try again after the seconds in Retry-After",
        retry_after_s=retry_after_s,
    )


def draining(retry_after_s: int) -> HttpProblem:
    """Return the refusal of a request that came after the service was told to stop."""
    return HttpProblem(
        503,
        "draining",
        "the service is about to stop",
        hint="ask another, or this one after the seconds in Retry-After",
        retry_after_s=retry_after_s,
    )
