"""``xmoe submit``: which arguments are paths, what travels, how Ctrl-C and the end are told."""

import json
import sys

import click
import pytest

from xmoe.cli import cli
from xmoe.cli.edge import run
from xmoe.cli.submit import describe_end, make_absolute, read_arguments
from xmoe.jobs import submit as jobs
from xmoe.jobs.submit import JobEnd

module = sys.modules["xmoe.cli.submit"]  # the command stands under the same name
FAR = "http://ray.example.org:8265"


class Cluster:
    """Takes requests; ``outcome`` is how its jobs end, or an interruption while one is followed."""

    def __init__(self):
        self.requests, self.stopped = [], []
        self.outcome = JobEnd("job_1", "SUCCEEDED", "", 0)

    def submit(self, client, request):
        self.requests.append(request)
        return "job_1"

    def follow(self, client, job_id, show):
        show("line of the log\n")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def stop(self, client, job_id):
        self.stopped.append(job_id)


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setattr(jobs, "connect", lambda address: "client")
    for name in ("submit", "follow", "stop"):
        monkeypatch.setattr(jobs, name, getattr(made, name))
    return made


@pytest.fixture
def submit(capsys):
    """Run the command; its own options come before the command that it hands in."""

    def call(*args):
        code = run(cli, ["submit", "--json", *map(str, args)])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return call


def test_paths_are_told_by_the_command_itself():
    paths = read_arguments(cli, ["train", "--dataset", "d", "--metadata=m", "--out", "o"])
    assert paths == {"inputs": ["d", "m"], "outputs": ["o"]}
    paths = read_arguments(cli, ["infer", "run", "a.wav", "b.wav", "--device", "cpu"])
    assert paths["inputs"] == ["run", "a.wav", "b.wav"]
    paths = read_arguments(cli, ["infer", "run", "--input", "s3://b/x", "--output", "p", "-q"])
    assert paths == {"inputs": ["run", "s3://b/x"], "outputs": ["p"]}


@pytest.mark.parametrize(
    "args",
    [
        ["fly"],
        ["submit", "train"],
        ["serve", "run"],
        ["train", "--datset", "d"],
        ["eval", "r", "x"],
    ],
)
def test_what_cannot_be_a_job_is_refused_here(args):
    with pytest.raises(click.UsageError):
        read_arguments(cli, args)


def test_relative_paths_are_those_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["eval", "runs/1", "--dataset=d", "--split", "test", "--out", "s3://b/o"]
    assert make_absolute(args, ["runs/1", "d", "s3://b/o"]) == (
        "eval",
        str(tmp_path / "runs/1"),
        f"--dataset={tmp_path}/d",
        "--split",
        "test",
        "--out",
        "s3://b/o",
    )


def test_command_is_handed_in_with_what_it_must_see(cluster, submit, tmp_path):
    code, fields, err = submit("--env", "A=1=2", "eval", tmp_path, "--dataset", "/data", "-q")
    assert (code, fields["status"], fields["job"]) == (0, "SUCCEEDED", "job_1")
    (request,) = cluster.requests
    assert request.args == ("eval", str(tmp_path), "--dataset", "/data", "-q")
    assert sorted(request.sees) == sorted(["/data", str(tmp_path)])
    assert (request.working_dir, request.env) == (None, {"A": "1=2"})
    assert "line of the log" in err


def test_relative_path_for_a_cluster_elsewhere_is_refused(cluster, submit):
    code, fields, _ = submit("--address", FAR, "profile", "data")
    assert code == 2
    assert "relative path" in fields["what"]
    assert cluster.requests == []


def test_data_inside_what_is_uploaded_is_refused(cluster, submit, tmp_path):
    (tmp_path / "data").mkdir()
    code, fields, _ = submit("--working-dir", tmp_path, "profile", tmp_path / "data")
    assert code == 2
    assert "not uploaded" in fields["what"]
    assert cluster.requests == []


def test_job_may_be_left_to_itself(cluster, submit):
    code, fields, _ = submit("--no-follow", "profile", "/data")
    assert (code, fields["status"]) == (0, "SUBMITTED")


@pytest.mark.parametrize(
    ("answer", "status", "stopped"), [(True, "STOPPED", ["job_1"]), (False, "RUNNING", [])]
)
def test_interruption_offers_to_stop(cluster, submit, monkeypatch, answer, status, stopped):
    cluster.outcome = KeyboardInterrupt()
    monkeypatch.setattr(module, "wants_to_stop", lambda: answer)
    code, fields, _ = submit("profile", "/data")
    assert (code, fields["status"]) == (130, status)
    assert cluster.stopped == stopped


def test_nobody_to_ask_means_no(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert module.wants_to_stop() is False


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 1, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_exit_code_is_that_of_the_command(status, code, expected):
    reply = describe_end(JobEnd("job_1", status, "", code))
    assert reply.exit_code == expected
    assert reply.fields["ok"] is (expected == 0)


@pytest.mark.parametrize("pair", ["A", "=1", "a b=1"])
def test_variables_that_are_none(cluster, submit, pair):
    code, fields, _ = submit("--env", pair, "synth", "set")
    assert (code, fields["where"]) == (2, "--env")
