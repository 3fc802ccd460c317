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
CUT_HINT = "cut it and send the parts one by one; /v1/model has the limits"
RUN_HINT = "the operator must serve a run of this version, or the version of this run"


class Problem(Frozen):
    """The body of every refusal; ``error`` is what the protocol of ``/v2`` asks for."""

    code: str
    message: str
    hint: str
    request_id: str = ""
    error: str | None = None


class HttpProblem(Exception):
    """A refused request; ``retry_after_s`` becomes the header Retry-After."""

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
    """An error as a refusal; an unknown one reveals nothing about itself."""
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
        500, code, "the server failed", hint="try again; the logs have it under the request id"
    )


def busy(retry_after_s: int) -> HttpProblem:
    """There is no room for a request now."""
    return HttpProblem(
        429,
        "overloaded",
        "too many requests are waiting",
        hint="try again after Retry-After seconds",
        retry_after_s=retry_after_s,
    )


def draining(retry_after_s: int) -> HttpProblem:
    """The service has been told to stop."""
    return HttpProblem(
        503,
        "draining",
        "the service is shutting down",
        hint="ask another instance, or this one after Retry-After seconds",
        retry_after_s=retry_after_s,
    )
