"""Every kind of failure gets its exit code, its words and, with --json, one JSON object."""

import io
import json
import os
import subprocess
import sys

import click
import pytest

from xmoe.base.errors import (
    AudioError,
    ConfigError,
    DatasetError,
    RunFolderError,
    StorageError,
    XmoeError,
)
from xmoe.cli.edge import Session, describe, run
from xmoe.cli.options import command, session
from xmoe.cli.output import Reply


def command_that_raises(error: BaseException) -> click.Command:
    @command("fails")
    def fails() -> Reply:
        print("noise of a library")
        session().resume_hint = "go on with --resume"
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (XmoeError("lost worker"), 1),
        (StorageError("disk is full"), 1),
        (AudioError("empty", "no samples"), 2),
        (DatasetError("no labels"), 2),
        (ConfigError("band is empty"), 2),
        (RunFolderError("torn"), 2),
        (click.UsageError("no such option"), 2),
        (click.BadParameter("not a number"), 2),
        (ValueError("a defect of ours"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_code_of_each_error(error, exit_code, capsys):
    assert run(command_that_raises(error), ["--json"]) == exit_code
    captured = capsys.readouterr()
    fields = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert (fields["ok"], fields["exit_code"]) == (False, exit_code)
    assert "noise of a library" in captured.err


def test_people_read_what_where_and_mend(capsys):
    error = AudioError("truncated", "half of it is missing", where="a.wav", mend="copy it again")
    assert run(command_that_raises(error), []) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[-2:] == ["xmoe: a.wav: half of it is missing", "  to fix it: copy it again"]


def test_audio_error_keeps_its_code():
    failure = describe(AudioError("empty", "no samples"), Session())
    assert failure.reply().fields["code"] == "empty"


def test_interruption_says_how_to_resume(capsys):
    assert run(command_that_raises(KeyboardInterrupt()), []) == 130
    assert "go on with --resume" in capsys.readouterr().err


def test_trace_only_when_asked(capsys):
    run(command_that_raises(ValueError("boom")), [])
    assert "Traceback" not in capsys.readouterr().err
    run(command_that_raises(ValueError("boom")), ["-v"])
    assert "Traceback" in capsys.readouterr().err


def test_unknown_option_is_json_too(capsys):
    assert run(command_that_raises(ValueError()), ["--json", "--what"]) == 2
    fields = json.loads(capsys.readouterr().out)
    assert "--what" in fields["what"]
    assert "--help" in fields["mend"]


def test_reply_is_the_only_thing_on_standard_output(capsys):
    @command("answers")
    def answers() -> Reply:
        print("noise of a library")
        return Reply({"accuracy": 0.5}, ["accuracy 0.5"], exit_code=0)

    assert run(answers, ["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"accuracy": 0.5}
    assert run(answers, []) == 0
    assert capsys.readouterr().out == "accuracy 0.5\n"


def test_reply_decides_the_exit_code(capsys):
    @command("checks")
    def checks() -> Reply:
        return Reply({"ok": False}, exit_code=1)

    assert run(checks, ["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"ok": False}


def test_help_goes_to_standard_output(capsys):
    assert run(command_that_raises(ValueError()), ["--help"]) == 0
    captured = capsys.readouterr()
    assert "--json" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(("coding", "shown"), [("latin-1", b"\\u017d"), ("utf-8", "Ž".encode())])
def test_a_letter_that_the_terminal_lacks_is_escaped(monkeypatch, coding, shown):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=coding))

    @command("names")
    def names() -> Reply:
        return Reply({"ok": True}, ["Žluva", "not UTF-8: \udce9.wav"])

    assert run(names, []) == 0
    assert shown + b"luva" in written.getvalue()


SHELL = """
import sys
from tests.cli.test_edge import command_that_answers
from xmoe.cli.edge import run
sys.exit(run(command_that_answers(), sys.argv[1:]))
"""


def command_that_answers() -> click.Command:
    @command("answers")
    def answers() -> Reply:
        return Reply({"ok": True, "label": "Grünfink"}, ("Grünfink",))

    return answers


def in_a_shell(script, **environment):
    """Run ``$X``, a command that answers, in a shell; return its exit code, answer and errors."""
    env = os.environ | {"X": f"{sys.executable} -c '{SHELL}'", **environment}
    done = subprocess.run(
        ["bash", "-c", script.replace("$X", env["X"])], env=env, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", ["", "--json"])
@pytest.mark.parametrize(
    ("output", "cause", "mend"),
    [
        (">&-", "standard output: it is closed", "send it to a file, or to /dev/null"),
        (
            "> /dev/full",
            "standard output: it cannot be written (No space left",
            "where there is room",
        ),
    ],
)
def test_an_output_that_takes_nothing_is_told_in_one_line(words, output, cause, mend):
    code, out, err = in_a_shell(f"$X {words} {output}")
    assert (code, out) == (2, "")
    first, second = err.strip().splitlines()
    assert first.startswith(f"xmoe: {cause}")
    assert mend in second


def test_a_failure_that_cannot_be_told_has_its_exit_code():
    assert in_a_shell("$X --nonsense --json > /dev/full")[0] == 2
    code, out, err = in_a_shell("$X --nonsense --json 2>&-")
    assert (code, json.loads(out)["ok"], err) == (2, False, "")


def test_a_reader_who_leaves_is_no_error_to_tell():
    assert in_a_shell("set -o pipefail; $X | true")[2] == ""


def test_a_folder_that_is_gone_is_told(tmp_path):
    code, _, err = in_a_shell(f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir $PWD; $X")
    assert code == 2
    assert "the current folder: it was removed" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
        {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"},
        {"TERM": "nothing-known"},
        {"COLUMNS": "not a number"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_odd_surroundings_change_no_answer(environment):
    code, out, err = in_a_shell("$X --json", **environment)
    assert (code, json.loads(out), err) == (0, {"ok": True, "label": "Grünfink"}, "")
    code, out, err = in_a_shell("$X", **environment)
    assert (code, err) == (0, "")
    assert out.strip() in ("Grünfink", "Gr\\xfcnfink")
