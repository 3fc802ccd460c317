"""A command -> a job on a running Ray cluster, its log here, and a clear end.

Nothing but the command travels: recordings, runs and answers stay where the cluster keeps them. So
the job first looks whether every node sees the paths that it is given (``xmoe.jobs.sight``), and
ends with the reason where one does not. Tokens are Ray's own affair (``RAY_AUTH_MODE=token`` with
``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``).
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xmoe.base.errors import ConfigError, XmoeError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

Show = Callable[[str], None]


@dataclass(frozen=True)
class JobRequest:
    """One job: ``args`` of the xmoe command, the paths among them, and where it runs.

    ``sees`` are paths that every node must see. ``working_dir`` is uploaded, if given: code, no
    recordings. ``python`` is the interpreter on the cluster.
    """

    address: str
    args: tuple[str, ...]
    sees: tuple[str, ...] = ()
    python: str = "python"
    working_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: Ray's word for it, its message, and the exit code of the command."""

    job_id: str
    status: str
    message: str
    exit_code: int | None


def is_here(address: str) -> bool:
    """Whether an address is of this machine (or forwarded from it)."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def default_python(address: str) -> str:
    """The interpreter to use: this one where the cluster may be here, else ``python``."""
    return sys.executable if is_here(address) else "python"


def check_paths(paths: Sequence[str], working_dir: Path | None) -> None:
    """Raise ConfigError for a path that would have to travel with the job."""
    for path in paths:
        if "://" in path:
            continue
        if not Path(path).is_absolute():
            raise ConfigError(
                "a relative path means nothing on a cluster",
                where=path,
                mend="write the absolute path at which the cluster sees it, or an s3:// address",
            )
        if working_dir is not None and Path(path).resolve().is_relative_to(working_dir.resolve()):
            raise ConfigError(
                "is inside --working-dir: recordings are not uploaded with a job",
                where=path,
                mend="put it on storage that the cluster sees (a mount, s3://, gs://)",
            )


def make_entrypoint(request: JobRequest) -> str:
    """The shell command of a job: first see the paths, then do the work."""
    work = shlex.join([request.python, "-m", "xmoe", *request.args])
    if not request.sees:
        return work
    look = shlex.join([request.python, "-m", "xmoe.jobs.sight", *request.sees])
    return f"{look} && {work}"


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster's dashboard; ConfigError where it cannot be reached."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ConfigError(
            "the cluster wants a token",
            where=address,
            mend="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN)",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no cluster answers: {_first_line(error)}",
            where=address,
            mend="start one (ray start --head) and name its dashboard, http://HOST:8265",
        ) from error


def submit(client: JobSubmissionClient, request: JobRequest) -> str:
    runtime: dict[str, Any] = {"env_vars": dict(request.env)} if request.env else {}
    if request.working_dir is not None:
        runtime["working_dir"] = str(request.working_dir)
    try:
        return client.submit_job(
            entrypoint=make_entrypoint(request), runtime_env=runtime, metadata={"made_by": "xmoe"}
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise XmoeError(
            f"the cluster did not take the job: {_first_line(error)}", where=request.address
        ) from error


def follow(client: JobSubmissionClient, job_id: str, show: Show) -> JobEnd:
    """Show the log of a job as it comes and return how it ended."""

    async def tail() -> None:
        async with aclosing(client.tail_job_logs(job_id)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                show(piece)

    try:
        asyncio.run(tail())
        info = client.get_job_info(job_id)
    except (OSError, RuntimeError) as error:
        raise XmoeError(
            f"the job's log was lost: {_first_line(error)}",
            where=job_id,
            mend="the job may still be running; see the command that follows it",
        ) from error
    return JobEnd(job_id, info.status.value, info.message or "", info.driver_exit_code)


def stop(client: JobSubmissionClient, job_id: str) -> None:
    client.stop_job(job_id)


def describe_commands(address: str, job_id: str) -> list[str]:
    where = f"--address {shlex.quote(address)} {job_id}"
    return [f"follow it: ray job logs {where} --follow", f"stop it: ray job stop {where}"]


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
