"""A small client of a served run, for scripts; needs nothing but the standard library."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypedDict, Unpack

from xmoe.base.errors import InputError, XmoeError

Audio = str | os.PathLike[str] | bytes
BUSY = (429, 503)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class RequestOptions(TypedDict, total=False):
    """What a request may ask for: see ``xmoe.serve.schemas.Options``."""

    k_max: int
    budget: str | float
    deadline_ms: float
    explain: bool


class Client:
    """Asks the service at ``url``; ``token`` comes from XMOE_TOKEN where it is not given.

    A busy service is asked again, after the delay that it names, up to ``retries`` times. A
    recording that the service refuses raises InputError, everything else XmoeError.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 30.0, retries: int = 2
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise InputError("not an address of a service", where=url, mend="give http://HOST:PORT")
        self._url = url.rstrip("/")
        direct = parts.hostname in LOOPBACK or urllib.request.proxy_bypass(parts.hostname or "")
        self._proxied = not direct and parts.scheme in urllib.request.getproxies()
        handlers = [urllib.request.ProxyHandler({})] if direct else []
        self._open = urllib.request.build_opener(*handlers).open
        self._token = (token or os.environ.get("XMOE_TOKEN") or "").strip()
        self._timeout_s = timeout_s
        self._retries = retries

    def classify(self, audio: Audio, **options: Unpack[RequestOptions]) -> dict[str, Any]:
        """The answer to a file, or to the bytes of one."""
        answer: dict[str, Any] = json.loads(self._post("/v1/classify", audio, dict(options)))
        return answer

    def explain(self, audio: Audio) -> dict[str, Any]:
        """The reasons for a recording's answer, as numbers."""
        record: dict[str, Any] = json.loads(self._post("/v1/explain", audio, {}))
        return record

    def draw(self, audio: Audio, picture: str = "gradcam") -> bytes:
        """The reasons as PNG: ``gradcam``, ``saliency_router``, ``patch_routing``, ``why_experts``
        or ``why_k``.
        """
        return self._post("/v1/explain", audio, {"output": "png", "picture": picture})

    def model(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self._send("/v1/model", None))
        return described

    def ready(self) -> bool:
        """Whether every expert answers."""
        try:
            self._send("/readyz", None, retries=0)
        except XmoeError:
            return False
        return True

    def _post(self, path: str, audio: Audio, options: dict[str, Any]) -> bytes:
        data = audio if isinstance(audio, bytes) else read_file(Path(audio))
        query = urllib.parse.urlencode({key: str(value).lower() for key, value in options.items()})
        return self._send(f"{path}?{query}" if query else path, data)

    def _send(self, path: str, data: bytes | None, *, retries: int | None = None) -> bytes:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310
        left = self._retries if retries is None else retries
        while True:
            try:
                with self._open(request, timeout=self._timeout_s) as reply:
                    body: bytes = reply.read()
                    return body
            except urllib.error.HTTPError as error:
                wait_s = _seconds(error.headers.get("Retry-After"))
                with error:
                    refusal = read_refusal(error)
                if error.code not in BUSY or left <= 0:
                    raise refusal from None
            except (OSError, HTTPException) as error:
                way = " NO_PROXY bypasses the proxy" if self._proxied else ""
                raise XmoeError(
                    "the service cannot be reached", where=self._url, mend=f"is it running?{way}"
                ) from error
            left -= 1
            time.sleep(wait_s)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=str(path), mend="check the path"
        ) from error


def read_refusal(error: urllib.error.HTTPError) -> XmoeError:
    try:
        body = json.loads(error.read())
        what, mend = f"{body['message']} ({body['code']})", body["hint"]
    except (OSError, ValueError, KeyError, TypeError):
        what, mend = f"the service answered {error.code}", None
        if error.code == 404:  # Serve's own: no application at this path
            mend = "give the whole address that xmoe serve or xmoe deploy printed, as .../xmoe"
    kind = InputError if 400 <= error.code < 500 and error.code not in BUSY else XmoeError
    return kind(what, mend=mend)


def _seconds(value: str | None) -> float:
    return min(float(value), 30.0) if value and value.isdecimal() else 1.0
