"""Who may ask, for what, and how much: one token for all, or several with names.

A file or an environment variable holds one line, which may do everything, or a table in JSON:

    {"field-team": {"token": "...", "scopes": ["ask"], "requests_per_s": 5, "audio_s_per_s": 60}}

A given token is compared with every known one by SHA-256 in constant time. Each router counts use
by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.serve.settings import HttpSettings

Scope = Literal["ask", "explain", "correct", "admin"]
LEAST_TOKEN = 16
MAKE_ONE = "make one: openssl rand -hex 32"
# A full bucket, in seconds of its rate.
BURST_S = 2.0
EVERYONE = "token"
SCOPES: Mapping[str, Scope] = MappingProxyType(
    {
        "/v1/explain": "explain",
        "/v1/corrections": "correct",
        "/v1/experts": "admin",
        "/v1/drift": "admin",
        "/v1/ops": "admin",
    }
)

# Charges the seconds of a recording before it is answered, where there is a quota.
CHARGE: ContextVar[Callable[[float], None] | None] = ContextVar("charge", default=None)


class Allowance(Frozen):
    """A token, its scopes and its quotas; None is without a limit."""

    token: SecretStr
    scopes: frozenset[Scope] = frozenset({"ask", "explain", "correct", "admin"})
    requests_per_s: float | None = Field(default=None, gt=0.0)
    audio_s_per_s: float | None = Field(default=None, gt=0.0)


Allowances = Mapping[str, Allowance]


def scope_of(route: str) -> Scope:
    """The scope that a route requires."""
    return SCOPES.get(route, "ask")


def charge(seconds: float) -> None:
    """Count seconds of sound against the token of the current request."""
    count = CHARGE.get()
    if count is not None:
        count(seconds)


class Bucket:
    """Token bucket: gains ``rate`` a second up to two seconds' worth, at least 1; may go into debt.

    Without a rate it is never empty.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(1.0, BURST_S * (rate or 0.0))
        self._level, self._at = self._most, clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until the bucket holds this much."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._level = min(self._most, self._level + self._rate * (now - self._at))
        self._at = now
        return max(0.0, (min(amount, self._most) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """Take this much, going into debt if need be."""
        self._level -= amount


class Holder:
    """The holder of a token: name, allowance, and what is left of it."""

    def __init__(self, name: str, allowance: Allowance, clock: Callable[[], float]) -> None:
        self.name = name
        self.scopes = allowance.scopes
        self.digest = _digest(allowance.token.get_secret_value().encode())
        self._requests = Bucket(allowance.requests_per_s, clock)
        self._audio = Bucket(allowance.audio_s_per_s, clock)

    def admit(self) -> int:
        """Count a request and return 0, or the whole seconds until it may come again."""
        wait_s = max(self._requests.wait_s(1.0), self.owed_s())
        if wait_s > 0.0:
            return math.ceil(wait_s)
        self._requests.take(1.0)
        return 0

    def owed_s(self) -> float:
        """Seconds until the sound answered so far is paid off."""
        return self._audio.wait_s(0.0)

    def charge(self, seconds: float) -> None:
        self._audio.take(seconds)


class Keys:
    """All tokens; without any, everybody may do everything."""

    def __init__(
        self, allowances: Allowances, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._holders = [Holder(name, one, clock) for name, one in allowances.items()]

    def __bool__(self) -> bool:
        return bool(self._holders)

    def find(self, given: bytes) -> Holder | None:
        """The holder of a token; compares with all, so that time does not tell which matched."""
        digest, found = _digest(given), None
        for holder in self._holders:
            if hmac.compare_digest(digest, holder.digest):
                found = holder
        return found


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def single(token: str | None) -> Allowances:
    """One token that may do everything, or none."""
    return {} if token is None else {EVERYONE: Allowance(token=SecretStr(token))}


def read_tokens(http: HttpSettings) -> Allowances:
    """The tokens that requests must carry; none where none is set.

    A single one, from file or environment, is stripped; each must be a line of 16 characters or
    more; an empty variable counts as unset. ConfigError for a file that cannot be read, a malformed
    table, or a token too weak to protect anything.
    """
    if http.token_file is None:
        where, text = http.token_variable, os.environ.get(http.token_variable)
        if not text:
            return {}
    else:
        where = http.token_file
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "the token file cannot be read",
                where=where,
                mend="check the path and its permissions",
            ) from error
    text = text.strip()
    found = _read_table(text, where) if text.startswith("{") else single(text)
    check_tokens(found, where)
    return found


def _read_table(text: str, where: str) -> Allowances:
    try:
        return TypeAdapter(dict[str, Allowance]).validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(what, where=where, mend="see docs/serving.md, Token") from None
    except ValueError:
        mend = "write one token, or a table as in docs/serving.md, Token"
        raise ConfigError("the token table is not JSON", where=where, mend=mend) from None


def check_tokens(allowances: Allowances, where: str) -> None:
    """Raise ConfigError for weak or repeated tokens and for an empty table."""
    tokens: Sequence[str] = [one.token.get_secret_value() for one in allowances.values()]
    for name, token in zip(allowances, tokens, strict=True):
        if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
            whose = "the token" if name == EVERYONE else f"the token of {name}"
            what = f"{whose} must be one line of at least {LEAST_TOKEN} printable ASCII characters"
            raise ConfigError(what, where=where, mend=MAKE_ONE)
    if not tokens:
        raise ConfigError("the table names no token", where=where, mend=MAKE_ONE)
    if len(set(tokens)) < len(tokens):
        raise ConfigError("two names have the same token", where=where, mend=MAKE_ONE)
