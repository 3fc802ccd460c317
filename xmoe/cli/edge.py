"""The edge between errors and exit codes: the only place that maps failures to them.

    0    done
    1    something failed that is not in the input (disk, memory, a lost worker, a defect of ours)
    2    the input is wrong: an option, a file, a data set, a run folder
    130  interrupted (Ctrl-C); what was saved stays loadable

With ``--json`` a failure is one JSON object on standard output too.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from xmoe.base.errors import ConfigError, InputError, XmoeError
from xmoe.cli.output import Reply, print_reply
from xmoe.storage.mirror import name_address

EXIT_OK, EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130

EXIT_CODES_HELP = """\b
Exit codes:
  0    done
  1    something failed that is not in the input (disk, memory, a lost worker)
  2    the input is wrong: an option, a file, a data set, a run folder
  130  interrupted (Ctrl-C); what was saved stays loadable

With --json, standard output holds exactly one JSON object, also for errors;
everything else goes to standard error."""


@dataclass
class Session:
    """Common options of the running command, and how to resume after an interruption."""

    as_json: bool = False
    verbose: bool = False
    quiet: bool = False
    resume_hint: str = ""


@dataclass(frozen=True)
class Failure:
    """An error as exit code, fields for programs and lines for people."""

    exit_code: int
    error: str
    what: str
    where: str | None = None
    mend: str | None = None
    code: str | None = None

    def reply(self) -> Reply:
        fields = {key: value for key, value in vars(self).items() if value is not None}
        return Reply({"ok": False, **fields}, exit_code=self.exit_code)

    def lines(self) -> Iterator[str]:
        yield f"xmoe: {self.where}: {self.what}" if self.where else f"xmoe: {self.what}"
        if self.mend:
            yield f"  to fix it: {self.mend}"


def describe(error: BaseException, session: Session) -> Failure:
    name = type(error).__name__
    if isinstance(error, XmoeError):
        exit_code = EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED
        code = getattr(error, "code", None)
        where = None if error.where is None else name_address(error.where)
        return Failure(exit_code, name, error.what, where, error.mend, code)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "xmoe"
        return Failure(EXIT_INPUT, name, error.format_message(), mend=f"see `{command} --help`")
    if isinstance(error, click.ClickException):
        return Failure(EXIT_INPUT, name, error.format_message())
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Failure(
            EXIT_INTERRUPTED, "Interrupted", "interrupted", mend=session.resume_hint or None
        )
    if isinstance(error, MemoryError):
        mend = "use a smaller --batch-size or --segment, or a machine with more memory"
        return Failure(EXIT_FAILED, name, "out of memory", mend=mend)
    hint = None if session.verbose else "run again with -v for the trace"
    return Failure(EXIT_FAILED, name, f"{name}: {error}", mend=hint)


def run(command: click.Command, args: Sequence[str]) -> int:
    """Run ``command``, print its reply or its failure, return the exit code."""
    session = Session(as_json="--json" in args)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that the terminal cannot write are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_process()
        reply = command.main(list(args), prog_name="xmoe", standalone_mode=False, obj=session)
        if not isinstance(reply, Reply):
            return reply if isinstance(reply, int) else EXIT_OK
        return _print(reply, session)
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, session)


def _check_process() -> None:
    """Raise ConfigError where what each command needs of its process is not there."""
    if sys.stdout is None:
        raise ConfigError(
            "it is closed, so nobody could read the answer",
            where="standard output",
            mend="send it to a file, or to /dev/null",
        )
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "it was removed", where="the current folder", mend="cd to one that is there"
        ) from None


def _print(reply: Reply, session: Session) -> int:
    """Print a reply; ConfigError where standard output takes no more."""
    try:
        print_reply(reply, sys.stdout, as_json=session.as_json)
    except BrokenPipeError:  # the reader of a pipe left
        _drop_output()
        return EXIT_FAILED
    except OSError as error:
        _drop_output()
        raise ConfigError(
            f"it cannot be written ({error.strerror}); what the command did stays",
            where="standard output",
            mend="send it where there is room",
        ) from error
    return reply.exit_code


def _drop_output() -> None:
    """Say nothing more into the void, nor at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _report(error: BaseException, session: Session) -> int:
    failure = describe(error, session)
    if session.verbose:
        traceback.print_exception(error)
    if sys.stderr is not None:
        for line in failure.lines():
            print(line, file=sys.stderr)  # noqa: T201 (where people read it)
    if session.as_json and sys.stdout is not None:
        try:
            print_reply(failure.reply(), sys.stdout, as_json=True)
        except OSError:
            _drop_output()
    return failure.exit_code


class ResultsOnly(click.Command):
    """A command whose standard output holds its reply and nothing else."""

    def invoke(self, ctx: click.Context) -> Any:
        """Send whatever the command prints to the error stream."""
        with redirect_stdout(sys.stderr):
            return super().invoke(ctx)
