"""``xmoe submit COMMAND ...``: any of the long commands, as a job on a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.base.errors import ConfigError
from xmoe.cli.edge import EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_OK
from xmoe.cli.options import EXISTING_FOLDER, command, session
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from xmoe.jobs.submit import JobEnd

NO_JOBS = ("submit", "serve", "demo", "deploy", "promote", "rollback", "versions")
INPUTS = ("dataset", "metadata", "run", "files", "source")  # options whose paths are read
OUTPUTS = ("out", "output")  # options whose paths are written


@command("submit", takes_command=True)
@click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    default="http://127.0.0.1:8265",
    show_default=True,
)
@click.option("--working-dir", type=EXISTING_FOLDER, help="Code to upload; nothing if left out.")
@click.option("--python", help="The interpreter there; this one if the cluster is here.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="For the job; may be repeated.")
@click.option("--no-follow", is_flag=True, help="Hand the job in and leave.")
@click.argument("args", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def submit(
    ctx: click.Context,
    *,
    address: str,
    working_dir: Path | None,
    python: str | None,
    env: Sequence[str],
    no_follow: bool,
    args: Sequence[str],
) -> Reply:
    """Run COMMAND with its arguments as a job on the Ray cluster at --address.

    For example: xmoe submit train --dataset /data/set --out /runs/one. No recordings are uploaded:
    every path must be one that all nodes see, or an s3:// or gs:// address; the job looks first.
    Ctrl-C offers to stop the job. A token is taken from RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.
    """
    from xmoe.jobs import submit as jobs

    group = ctx.parent.command if ctx.parent else None
    assert isinstance(group, click.Group)
    values = read_arguments(group, args)
    if jobs.is_here(address):
        args = make_absolute(args, [*values["inputs"], *values["outputs"]])
        values = read_arguments(group, args)
    jobs.check_paths([*values["inputs"], *values["outputs"]], working_dir)
    request = jobs.JobRequest(
        address=address,
        args=tuple(args),
        sees=tuple(values["inputs"]),
        python=python or jobs.default_python(address),
        working_dir=working_dir,
        env=dict(read_variables(env)),
    )
    client = jobs.connect(address)
    job_id = jobs.submit(client, request)
    click.echo(f"job {job_id}: {' '.join(args)}", err=True)
    if no_follow:
        later = jobs.describe_commands(address, job_id)
        return Reply({"ok": True, "job": job_id, "status": "SUBMITTED"}, later)
    return follow_job(client, address, job_id)


def follow_job(client: JobSubmissionClient, address: str, job_id: str) -> Reply:
    """Show the log until the job ends; Ctrl-C asks whether to stop it."""
    from xmoe.jobs import submit as jobs

    later = jobs.describe_commands(address, job_id)
    session().resume_hint = "; ".join(later)

    def show(piece: str) -> None:
        if not session().quiet:
            click.echo(piece, nl=False, err=True)

    try:
        end = jobs.follow(client, job_id, show)
    except KeyboardInterrupt:
        if wants_to_stop():
            jobs.stop(client, job_id)
            fields = {"ok": False, "job": job_id, "status": "STOPPED"}
            return Reply(fields, [f"job {job_id} is stopping"], EXIT_INTERRUPTED)
        fields = {"ok": False, "job": job_id, "status": "RUNNING"}
        return Reply(fields, ["the job keeps running", *later], EXIT_INTERRUPTED)
    return describe_end(end)


def wants_to_stop() -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("\nstop the job?", default=False, err=True)
    except click.Abort:
        return False


def describe_end(end: JobEnd) -> Reply:
    """The reply of a job that ended: its exit code is ours where it means the same."""
    done = end.status == "SUCCEEDED"
    ours = {EXIT_INPUT: EXIT_INPUT, EXIT_INTERRUPTED: EXIT_INTERRUPTED}
    code = EXIT_OK if done else ours.get(end.exit_code or EXIT_FAILED, EXIT_FAILED)
    if end.status == "STOPPED":
        code = EXIT_INTERRUPTED
    fields = {"ok": done, "job": end.job_id, "status": end.status, "message": end.message}
    return Reply(fields, [f"job {end.job_id}: {end.status.lower()}"], code)


def read_arguments(group: click.Group, args: Sequence[str]) -> dict[str, list[str]]:
    """The paths among a command's arguments, ``inputs`` and ``outputs``.

    Raises UsageError for an unknown command or option; what the values mean is checked on the
    cluster, where the paths are.
    """
    name = args[0]
    found = group.commands.get(name)
    if found is None or name in NO_JOBS:
        jobs = ", ".join(sorted(set(group.commands) - set(NO_JOBS)))
        raise click.UsageError(f"{name!r} cannot be a job; these can: {jobs}")
    context = click.Context(found, info_name=name)
    values, rest, _ = found.make_parser(context).parse_args(list(args[1:]))
    if rest:
        raise click.UsageError(f"{name} does not take {' '.join(rest)!r}")
    given = {key: list(_flat(value)) for key, value in values.items()}
    return {
        "inputs": [path for key in INPUTS for path in given.get(key, ())],
        "outputs": [path for key in OUTPUTS for path in given.get(key, ())],
    }


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _flat(part)


def make_absolute(args: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Arguments in which relative paths are those of this machine, absolute."""
    full = {path: str(Path(path).absolute()) for path in paths if "://" not in path}
    made = []
    for arg in args:
        flag, mark, value = arg.partition("=")
        if mark and flag.startswith("--") and value in full:
            made.append(f"{flag}={full[value]}")
        else:
            made.append(full.get(arg, arg))
    return (args[0], *made[1:])


def read_variables(env: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each NAME=VALUE; ConfigError for what is none."""
    for pair in env:
        name, mark, value = pair.partition("=")
        if not mark or not name.isidentifier():
            raise ConfigError("is not NAME=VALUE", where="--env", mend="write --env NAME=VALUE")
        yield name, value
